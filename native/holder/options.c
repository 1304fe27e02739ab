#include "holder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_number(const char *text, long low, long high, long *out) {
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) return false;
    *out = value;
    return true;
}

static bool take_value(struct options *options, const char *name, long value) {
    if (strcmp(name, "--dir-fd") == 0) {
        options->dir_fd = (int)value;
    } else if (strcmp(name, "--lock-fd") == 0) {
        options->lock_fd = (int)value;
    } else if (strcmp(name, "--console-fd") == 0) {
        options->console_fd = (int)value;
    } else if (strcmp(name, "--console-listen-fd") == 0) {
        options->console_listen_fd = (int)value;
    } else if (strcmp(name, "--uid") == 0) {
        options->uid = (uid_t)value;
    } else if (strcmp(name, "--gid") == 0) {
        options->gid = (gid_t)value;
    } else if (strcmp(name, "--log-max") == 0) {
        options->log_max = value;
    } else if (strcmp(name, "--nofile") == 0) {
        options->file_limit = value;
    } else if (strcmp(name, "--group") == 0 && options->group_count < MAX_GROUPS) {
        options->groups[options->group_count++] = (gid_t)value;
    } else if (strcmp(name, "--keep-fd") == 0 && options->kept_count < MAX_KEPT) {
        options->kept[options->kept_count++] = (int)value;
    } else {
        return false;
    }
    return true;
}

bool options_read(struct options *options, int argc, char **argv) {
    *options = (struct options){.dir_fd = -1, .lock_fd = -1, .console_fd = -1, .console_listen_fd = -1, .log_max = 1 << 20};
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
        long value = 0;
        if (i + 1 >= argc || !read_number(argv[i + 1], 0, INT_MAX, &value) || !take_value(options, argv[i], value)) {
            fprintf(stderr, "holder: cannot use %s %s\n", argv[i], i + 1 < argc ? argv[i + 1] : "");
            return false;
        }
    }
    if (i + 1 >= argc) {
        fprintf(stderr, "holder: no command after --\n");
        return false;
    }
    options->command = argv + i + 1;
    if (options->dir_fd < 3 || options->lock_fd < 3 || options->console_fd < 3 || options->console_listen_fd < 3) {
        fprintf(stderr, "holder: --dir-fd, --lock-fd, --console-fd and --console-listen-fd are needed\n");
        return false;
    }
    if (options->uid == 0 || options->gid == 0) {
        fprintf(stderr, "holder: a VM process does not run as root\n");
        return false;
    }
    if (options->log_max < 4096) {
        fprintf(stderr, "holder: --log-max is at least 4096\n");
        return false;
    }
    return true;
}
