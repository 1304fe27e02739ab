#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: holder --dir-fd N --lock-fd N --console-fd N --console-listen-fd N --uid U --gid G\n"
    "              [--log-max BYTES] [--nofile N] [--processes N] [--memlock BYTES] [--group G]... [--keep-fd N]...\n"
    "              [--stdin-fd N] [--stdout-fd N]\n"
    "              [--cgroup-fd N]... [--bind PATH]... [--device PATH]... [--work PATH] -- PROGRAM [ARGUMENT]...\n";

static bool read_number(const char *text, unsigned long long highest, unsigned long long *value)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *value <= highest;
}

static bool read_fd(const char *text, int *fd)
{
    unsigned long long value;
    if (!read_number(text, 1u << 20, &value) || fcntl((int)value, F_GETFD) < 0)
        return false;
    *fd = (int)value;
    return true;
}

/* An absolute path that leads nowhere but down. */
static bool read_path(const char *text, const char **path)
{
    if (text == NULL || text[0] != '/' || strlen(text) >= PATH_MAX || strstr(text, "/../") != NULL)
        return false;
    size_t length = strlen(text);
    if (length < 2 || text[length - 1] == '/' || (length >= 3 && strcmp(text + length - 3, "/..") == 0))
        return false;
    *path = text;
    return true;
}

static bool read_option(const char *name, const char *value, struct options *options)
{
    unsigned long long number;
    if (strcmp(name, "--dir-fd") == 0)
        return read_fd(value, &options->dir_fd);
    if (strcmp(name, "--lock-fd") == 0)
        return read_fd(value, &options->lock_fd);
    if (strcmp(name, "--console-fd") == 0)
        return read_fd(value, &options->console_fd);
    if (strcmp(name, "--console-listen-fd") == 0)
        return read_fd(value, &options->listen_fd);
    if (strcmp(name, "--stdin-fd") == 0)
        return read_fd(value, &options->stdin_fd);
    if (strcmp(name, "--stdout-fd") == 0)
        return read_fd(value, &options->stdout_fd);
    if (strcmp(name, "--keep-fd") == 0)
        return options->keep_count < KEEP_MAX && read_fd(value, &options->keep[options->keep_count++]);
    if (strcmp(name, "--cgroup-fd") == 0)
        return options->cgroup_count < CGROUPS_MAX && read_fd(value, &options->cgroups[options->cgroup_count++]);
    if (strcmp(name, "--bind") == 0)
        return options->bind_count < BINDS_MAX && read_path(value, &options->binds[options->bind_count++]);
    if (strcmp(name, "--device") == 0)
        return options->device_count < DEVICES_MAX && read_path(value, &options->devices[options->device_count++]);
    if (strcmp(name, "--work") == 0)
        return read_path(value, &options->work);
    if (!read_number(value, 0xfffffffeu, &number))
        return false;
    if (strcmp(name, "--uid") == 0)
        options->uid = (uid_t)number;
    else if (strcmp(name, "--gid") == 0)
        options->gid = (gid_t)number;
    else if (strcmp(name, "--group") == 0 && options->group_count < GROUPS_MAX)
        options->groups[options->group_count++] = (gid_t)number;
    else if (strcmp(name, "--log-max") == 0 && number >= 4096)
        options->log_max = (size_t)number;
    else if (strcmp(name, "--nofile") == 0 && number >= 16)
        options->nofile = (rlim_t)number;
    else if (strcmp(name, "--processes") == 0 && number >= 1)
        options->processes = (rlim_t)number;
    else if (strcmp(name, "--memlock") == 0)
        options->memlock = (rlim_t)number;
    else
        return false;
    return true;
}

bool options_is_directory(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
}

bool options_read(int argc, char **argv, struct options *options)
{
    *options = (struct options){.dir_fd = -1, .lock_fd = -1, .console_fd = -1, .listen_fd = -1, .stdin_fd = -1, .stdout_fd = -1, .uid = (uid_t)-1, .gid = (gid_t)-1, .log_max = 1048576,
                                 .nofile = RLIM_INFINITY, .processes = RLIM_INFINITY, .memlock = RLIM_INFINITY};
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at += 2) {
        if (!read_option(argv[at], at + 1 < argc ? argv[at + 1] : NULL, options)) {
            fprintf(stderr, "holder: %s %s: not understood, out of range, or no open descriptor\n", argv[at], at + 1 < argc ? argv[at + 1] : "");
            fputs(USAGE, stderr);
            return false;
        }
    }
    options->command = at + 1 < argc ? argv + at + 1 : NULL;
    if (options->command == NULL || options->dir_fd < 3 || options->lock_fd < 3 || options->console_fd < 3 || options->listen_fd < 3 ||
        options->uid == (uid_t)-1 || options->gid == (gid_t)-1) {
        fputs(USAGE, stderr);
        return false;
    }
    if (options->uid == 0 || options->gid == 0) {
        fputs("holder: a VM process does not run as root\n", stderr);
        return false;
    }
    return true;
}
