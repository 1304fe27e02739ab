#include "blockdev.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"

enum { STEP_NS = 4000000 };

static bool has_serial(const char *name, const char *wanted)
{
    char path[300], serial[64];
    snprintf(path, sizeof path, "/sys/block/%s/serial", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, serial, sizeof serial - 1);
    if (fd >= 0)
        close(fd);
    serial[length > 0 ? length : 0] = '\0';
    serial[strcspn(serial, "\n")] = '\0';
    return strcmp(serial, wanted) == 0;
}

static bool look(const char *wanted, char *path, size_t size)
{
    bool found = false;
    DIR *directory = opendir("/sys/block");
    if (directory == NULL)
        return false;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        bool by_serial = has_serial(entry->d_name, wanted);
        if (!by_serial && (found || strcmp(entry->d_name, wanted) != 0))
            continue;
        snprintf(path, size, "/dev/%s", entry->d_name);
        found = access(path, F_OK) == 0;
        if (by_serial)
            break;
    }
    closedir(directory);
    return found;
}

bool blockdev_find(const char *wanted, uint64_t limit_ms, char *path, size_t size)
{
    uint64_t deadline_ms = uptime_ms() + limit_ms;
    while (!look(wanted, path, size)) {
        if (uptime_ms() >= deadline_ms)
            return false;
        nanosleep(&(struct timespec){0, STEP_NS}, NULL);
    }
    return true;
}
