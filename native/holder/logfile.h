#ifndef HOLDER_LOGFILE_H
#define HOLDER_LOGFILE_H

#include <stddef.h>

/* A log of bounded size: NAME, and NAME.1 with what came before it. */
struct logfile {
    int dir_fd;
    const char *name;
    size_t limit;
    size_t size;
    int fd;
};

void logfile_open(struct logfile *log, int dir_fd, const char *name, size_t limit);

/* A full disk loses the bytes and nothing else. */
void logfile_write(struct logfile *log, const char *bytes, size_t length);

#endif
