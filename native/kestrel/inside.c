#include "inside.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_resolved(int directory, const char *path, int flags, unsigned long long resolve)
{
    struct open_how how = {.flags = (unsigned long long)(flags | O_CLOEXEC), .resolve = resolve | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int open_inside(int root, const char *path, int flags)
{
    return open_resolved(root, path, flags, RESOLVE_IN_ROOT);
}

int open_beneath(int directory, const char *path, int flags)
{
    return open_resolved(directory, path, flags, RESOLVE_BENEATH);
}
