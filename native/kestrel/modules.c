#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "console.h"
#include "port.h"

enum { LIST_SIZE = 16384 };

static char list[LIST_SIZE];

/* vsock takes three modules and their time, and few machines have the device. It is on the bus before: they stand last in the list. */
static bool is_needless(const char *path)
{
    const char *name = strrchr(path, '/');
    return strstr(name != NULL ? name : path, "vsock") != NULL && !port_is_vsock();
}

static void load(const char *path)
{
    if (is_needless(path))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
        console_say("module %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void modules_load(void)
{
    int fd = open("/etc/kestrel/modules", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* a kernel that has everything built in */
    ssize_t length = read(fd, list, sizeof list - 1);
    close(fd);
    list[length > 0 ? length : 0] = '\0';
    for (char *line = list; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        char path[512];
        if (line[0] == '/' && size < sizeof path) {
            snprintf(path, sizeof path, "%.*s", (int)size, line);
            load(path);
        }
        line += size + (line[size] == '\n' ? 1 : 0);
    }
}

void modules_discard(int root_fd)
{
    for (char *line = list; *line != '\0';) {
        size_t size = strcspn(line, "\n");
        char path[512];
        if (line[0] == '/' && size < sizeof path) {
            snprintf(path, sizeof path, "%.*s", (int)size, line);
            unlinkat(root_fd, path + 1, 0);
        }
        line += size + (line[size] == '\n' ? 1 : 0);
    }
}
