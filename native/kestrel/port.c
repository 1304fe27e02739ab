#include "port.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"

enum { STEP_NS = 2000000 };

static int look(const char *name)
{
    int port = -1;
    DIR *directory = opendir("/sys/class/virtio-ports");
    if (directory == NULL)
        return -1;
    for (struct dirent *entry = readdir(directory); entry != NULL && port < 0; entry = readdir(directory)) {
        char path[300], text[64];
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        int fd = entry->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        text[length > 0 ? length : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
        if (strcmp(text, name) != 0)
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); /* ENXIO until the host has told all about it */
    }
    closedir(directory);
    return port;
}

int port_open(const char *name, uint64_t limit_ms)
{
    uint64_t deadline_ms = uptime_ms() + limit_ms;
    int port = look(name);
    while (port < 0 && uptime_ms() < deadline_ms) {
        nanosleep(&(struct timespec){0, STEP_NS}, NULL);
        port = look(name);
    }
    return port;
}
