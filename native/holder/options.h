#ifndef HOLDER_OPTIONS_H
#define HOLDER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { KEEP_MAX = 64, GROUPS_MAX = 8, BINDS_MAX = 48, DEVICES_MAX = 8, CGROUPS_MAX = 16 };

struct options {
    int dir_fd;
    int lock_fd;
    int console_fd;
    int listen_fd;
    int stdin_fd; /* what the program has as these, or -1: nothing, and the log of what it prints */
    int stdout_fd;
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX]; /* supplementary, such as the one that may open /dev/kvm */
    size_t group_count;
    size_t log_max;
    rlim_t nofile;    /* these three at most; RLIM_INFINITY leaves one as it is */
    rlim_t processes; /* and threads, of its user */
    rlim_t memlock;   /* bytes */
    const char *binds[BINDS_MAX]; /* what it sees of the host's files, read-only and at the same places */
    size_t bind_count;
    const char *devices[DEVICES_MAX];
    size_t device_count;
    const char *work; /* the one directory that it may write to, seen as /work; NULL for none */
    int cgroups[CGROUPS_MAX]; /* of its control groups: a version 1 group's tasks, open for writing, or a version 2 group's directory */
    size_t cgroup_count;
    int keep[KEEP_MAX];
    size_t keep_count;
    char **command;
};

/* Whether an open descriptor is a directory's. */
bool options_is_directory(int fd);

/* False, with a line on stderr, when the command line is not what it must be. Every descriptor named is open. */
bool options_read(int argc, char **argv, struct options *options);

#endif
