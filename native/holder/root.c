#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Any directory that every host has; nothing is hidden, since this mount becomes the root and leaves it. */
#define STAGE "/proc"
#define OLD "/.old"
#define WORK "/work"

static const char *const DEVICES[] = {"/dev/null", "/dev/zero", "/dev/urandom"};

static bool make_parents(const char *path)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part)
        return false;
    for (size_t at = 1; at < length; at++) {
        if (path[at] != '/')
            continue;
        memcpy(part, path, at);
        part[at] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return false;
    }
    return true;
}

static bool make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0444);
    return fd >= 0 && close(fd) == 0;
}

static bool copy_link(const char *source, const char *path)
{
    char target[PATH_MAX];
    ssize_t length = readlink(source, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    return symlink(target, path) == 0 || errno == EEXIST;
}

/* What a mount forbids already must be forbidden again, or the kernel refuses where volantd itself is contained. */
static unsigned long flags_of(const char *path)
{
    struct statvfs found;
    return statvfs(path, &found) == 0 && (found.f_flag & ST_NOEXEC) != 0 ? MS_NOEXEC : 0;
}

/* `path` of the host's, at the same place, a link as a link. */
static bool bring(const char *path, const char *place, unsigned long flags)
{
    char source[PATH_MAX];
    struct stat found;
    if ((size_t)snprintf(source, sizeof source, OLD "%s", path) >= sizeof source) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (lstat(source, &found) != 0 || !make_parents(place))
        return false;
    if (S_ISLNK(found.st_mode))
        return copy_link(source, place);
    if (S_ISDIR(found.st_mode) ? mkdir(place, 0755) != 0 && errno != EEXIST : !make_file(place))
        return false;
    if (mount(source, place, NULL, MS_BIND, NULL) != 0)
        return false;
    if (S_ISCHR(found.st_mode))
        return true;
    return mount(NULL, place, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | flags | flags_of(place), NULL) == 0;
}

/* Of /proc only processes, where the kernel can (5.8); this is a process namespace with one. */
static bool mount_proc(void)
{
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
    if (mkdir("/proc", 0755) != 0)
        return false;
    return mount("proc", "/proc", "proc", flags, "subset=pid") == 0 || mount("proc", "/proc", "proc", flags, NULL) == 0;
}

static const char *fill(const struct options *options, const char *program)
{
    for (size_t i = 0; i < options->bind_count; i++)
        if (!bring(options->binds[i], options->binds[i], MS_RDONLY))
            return options->binds[i];
    if (program != NULL) {
        if (access(program, F_OK) != 0 && !bring(program, program, MS_RDONLY))
            return "the program";
        /* It may have been named by a link. */
        if (access(options->command[0], F_OK) != 0 &&
            (!make_parents(options->command[0]) || symlink(program, options->command[0]) != 0))
            return "the program";
    }
    for (size_t i = 0; i < sizeof DEVICES / sizeof DEVICES[0]; i++)
        if (!bring(DEVICES[i], DEVICES[i], 0))
            return DEVICES[i];
    for (size_t i = 0; i < options->device_count; i++)
        if (!bring(options->devices[i], options->devices[i], 0))
            return options->devices[i];
    if (options->work != NULL && !bring(options->work, WORK, MS_NOEXEC))
        return options->work;
    return mount_proc() ? NULL : "private /proc";
}

const char *root_enter(const struct options *options)
{
    static char program[PATH_MAX];
    /* One that is not there is for the execution to report. */
    bool has_program = realpath(options->command[0], program) != NULL;
    mode_t mask = umask(022);
    if (mount("volant", STAGE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=512") != 0)
        return "empty root";
    if (mkdir(STAGE OLD, 0700) != 0 || syscall(SYS_pivot_root, STAGE, STAGE OLD) != 0 || chdir("/") != 0)
        return "change of root";
    const char *failed = fill(options, has_program ? program : NULL);
    if (failed != NULL)
        return failed;
    if (umount2(OLD, MNT_DETACH) != 0 || rmdir(OLD) != 0)
        return "host's files put away";
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return "read-only root";
    umask(mask);
    return NULL;
}
