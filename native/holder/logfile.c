#include "logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void reopen(struct logfile *log)
{
    struct stat status;
    log->fd = openat(log->dir_fd, log->name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    log->size = log->fd >= 0 && fstat(log->fd, &status) == 0 ? (size_t)status.st_size : 0;
}

void logfile_open(struct logfile *log, int dir_fd, const char *name, size_t limit)
{
    *log = (struct logfile){.dir_fd = dir_fd, .name = name, .limit = limit, .fd = -1};
    reopen(log);
}

static void rotate(struct logfile *log)
{
    char older[64];
    snprintf(older, sizeof older, "%s.1", log->name);
    if (log->fd >= 0)
        close(log->fd);
    if (renameat(log->dir_fd, log->name, log->dir_fd, older) != 0)
        unlinkat(log->dir_fd, log->name, 0);
    reopen(log);
}

void logfile_write(struct logfile *log, const char *bytes, size_t length)
{
    while (length > 0) {
        if (log->size >= log->limit || log->fd < 0)
            rotate(log);
        size_t room = log->limit > log->size ? log->limit - log->size : 0;
        size_t part = length < room ? length : room;
        ssize_t written = log->fd < 0 || part == 0 ? -1 : write(log->fd, bytes, part);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        log->size += (size_t)written;
        bytes += written;
        length -= (size_t)written;
    }
}
