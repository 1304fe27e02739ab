#include "holder.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void reopen(struct log_file *log) {
    log->fd = openat(log->dir_fd, log->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat found;
    log->size = log->fd >= 0 && fstat(log->fd, &found) == 0 ? (long)found.st_size : 0;
}

void log_open(struct log_file *log, int dir_fd, const char *name, const char *previous, long max) {
    *log = (struct log_file){.dir_fd = dir_fd, .name = name, .previous = previous, .max = max, .fd = -1};
    reopen(log);
}

static void rotate(struct log_file *log) {
    if (log->fd >= 0) close(log->fd);
    if (renameat(log->dir_fd, log->name, log->dir_fd, log->previous) < 0) unlinkat(log->dir_fd, log->name, 0);
    reopen(log);
}

void log_write(struct log_file *log, const char *bytes, size_t count) {
    while (count > 0) {
        if (log->size >= log->max) rotate(log);
        size_t room = (size_t)(log->max - log->size);
        size_t part = count < room ? count : room;
        ssize_t written = log->fd < 0 ? -1 : write(log->fd, bytes, part);
        if (written <= 0) return;
        log->size += written;
        bytes += written;
        count -= (size_t)written;
    }
}
