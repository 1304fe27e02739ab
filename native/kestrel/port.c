#include "port.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Virtio 1.2, sections 5, 5.3 and 5.10. */
enum { VIRTIO_ID_CONSOLE = 3, VIRTIO_CONSOLE_F_MULTIPORT = 1, VIRTIO_ID_VSOCK = 19 };

/* The first line of a file of sysfs; "" when it cannot be read. */
static void read_line(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

/* Whether there is a device of this kind, and with this feature unless that is negative. */
static bool find_device(long id, int feature)
{
    bool found = false;
    DIR *directory = opendir("/sys/bus/virtio/devices");
    if (directory == NULL)
        return false;
    for (struct dirent *entry = readdir(directory); entry != NULL && !found; entry = readdir(directory)) {
        char path[300], text[80];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", entry->d_name);
        read_line(path, text, sizeof text);
        if (strtol(text, NULL, 16) != id)
            continue;
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/features", entry->d_name);
        read_line(path, text, sizeof text);
        found = feature < 0 || (strlen(text) > (size_t)feature && text[feature] == '1');
    }
    closedir(directory);
    return found;
}

bool port_may_come(void)
{
    return find_device(VIRTIO_ID_CONSOLE, VIRTIO_CONSOLE_F_MULTIPORT);
}

bool port_is_vsock(void)
{
    return find_device(VIRTIO_ID_VSOCK, -1);
}

int port_open(const char *name)
{
    int port = -1;
    DIR *directory = opendir("/sys/class/virtio-ports");
    if (directory == NULL)
        return -1;
    for (struct dirent *entry = readdir(directory); entry != NULL && port < 0; entry = readdir(directory)) {
        char path[300], text[64];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        read_line(path, text, sizeof text);
        if (strcmp(text, name) != 0)
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); /* ENXIO until the host has told all about it */
    }
    closedir(directory);
    return port;
}
