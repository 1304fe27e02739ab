#include "hostfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool hostfiles_replace(const char *name, const char *bytes, size_t length)
{
    mkdir("/etc", 0755);
    int directory = open("/etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return false;
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.kestrel", name);
    unlinkat(directory, temporary, 0);
    int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool done = fd >= 0 && write(fd, bytes, length) == (ssize_t)length && fchmod(fd, 0644) == 0 &&
                renameat(directory, temporary, directory, name) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (!done)
        unlinkat(directory, temporary, 0);
    close(directory);
    errno = error;
    return done;
}
