#ifndef HOLDER_OPTIONS_H
#define HOLDER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { KEEP_MAX = 64, GROUPS_MAX = 8 };

struct options {
    int dir_fd;
    int lock_fd;
    int console_fd;
    int listen_fd;
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX]; /* supplementary, such as the one that may open /dev/kvm */
    size_t group_count;
    size_t log_max;
    rlim_t nofile; /* 0: leave it */
    int keep[KEEP_MAX];
    size_t keep_count;
    char **command;
};

/* False, with a line on stderr, when the command line is not what it must be. Every descriptor named is open. */
bool options_read(int argc, char **argv, struct options *options);

#endif
