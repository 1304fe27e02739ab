#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entry.h"
#include "filewire.h"
#include "inside.h"

/* In a child: a tree, depth first, each directory read as it is walked, so that its size costs nothing. */

static struct file_counts counts;
static char path[ENTRY_PATH_MAX + 1]; /* of the entry at hand, below what was asked for */

static _Noreturn void fail(int error)
{
    filewire_fail(filewire_code(error), strerror(error), path);
}

static void announce(const struct stat *status, enum entry_type type, const char *target)
{
    struct entry entry = {
        .path = path,
        .type = type,
        .mode = status->st_mode & 07777,
        .uid = status->st_uid,
        .gid = status->st_gid,
        .mtime_ns = entry_time_ns(&status->st_mtim),
        .size = status->st_size,
        .target = target,
    };
    struct writer writer = {.bytes = (char *)filewire_room(), .capacity = RECORD_MAX};
    entry_write(&writer, &entry);
    if (writer.overflow)
        filewire_fail("failed", "its names are too long", path);
    filewire_send(FILE_ENTRY, writer.length);
    counts.entries++;
}

/* Exactly as many bytes as were announced, whatever becomes of the file meanwhile. */
static void send_content(int fd, int64_t size)
{
    bool torn = false;
    for (int64_t left = size; left > 0;) {
        uint8_t *room = filewire_room();
        size_t wanted = left < FILE_PIECE ? (size_t)left : FILE_PIECE;
        ssize_t length = torn ? 0 : read(fd, room, wanted);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            fail(errno);
        if (length == 0) {
            memset(room, 0, wanted);
            length = (ssize_t)wanted;
            torn = true;
        }
        filewire_send(FILE_CONTENT, (size_t)length);
        left -= length;
        counts.bytes += (uint64_t)length;
    }
    counts.torn += torn;
}

/* The thing itself was looked at through `handle`; opening its name again might find another. */
static int open_again(int handle, int flags)
{
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
    return open(name, flags | O_CLOEXEC | O_NOCTTY);
}

static void walk(int handle, size_t depth);

static void walk_directory(int handle, size_t depth)
{
    size_t length = strcmp(path, ".") == 0 ? 0 : strlen(path);
    int fd = open_again(handle, O_RDONLY | O_DIRECTORY);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL)
        fail(errno);
    if (depth == ENTRY_DEPTH_MAX)
        filewire_fail("failed", "its directories are too deep", path);
    for (;;) {
        errno = 0;
        struct dirent *found = readdir(directory);
        if (found == NULL && errno != 0)
            fail(errno);
        if (found == NULL)
            break;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        if (!text_is_utf8(found->d_name)) {
            counts.skipped++; /* JSON has no way to name it */
            continue;
        }
        size_t room = sizeof path - length;
        int written = snprintf(path + length, room, "%s%s", length > 0 ? "/" : "", found->d_name);
        if (written < 0 || (size_t)written >= room)
            filewire_fail("failed", "its path is too long", NULL);
        int inner = openat(fd, found->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (inner >= 0) {
            walk(inner, depth + 1);
            close(inner);
        } else if (errno != ENOENT) { /* it was there a moment ago */
            fail(errno);
        }
        path[length] = '\0';
    }
    closedir(directory);
    if (length == 0)
        strcpy(path, ".");
}

static void walk(int handle, size_t depth)
{
    static char target[ENTRY_PATH_MAX + 1];
    struct stat status;
    if (fstat(handle, &status) != 0)
        fail(errno);
    if (S_ISDIR(status.st_mode)) {
        announce(&status, ENTRY_DIRECTORY, NULL);
        walk_directory(handle, depth);
    } else if (S_ISREG(status.st_mode)) {
        int fd = open_again(handle, O_RDONLY);
        if (fd < 0)
            fail(errno);
        announce(&status, ENTRY_FILE, NULL);
        send_content(fd, status.st_size);
        close(fd);
    } else if (S_ISLNK(status.st_mode)) {
        ssize_t length = readlinkat(handle, "", target, sizeof target - 1);
        if (length < 0)
            fail(errno);
        target[length] = '\0';
        if (text_is_utf8(target))
            announce(&status, ENTRY_SYMLINK, target);
        else
            counts.skipped++;
    } else if (S_ISFIFO(status.st_mode)) {
        announce(&status, ENTRY_FIFO, NULL);
    } else {
        counts.skipped++;
    }
}

void files_read(const char *wanted)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int handle = root < 0 ? -1 : open_inside(root, wanted, O_PATH | O_NOFOLLOW);
    if (handle < 0)
        filewire_refuse(filewire_code(errno), strerror(errno));
    strcpy(path, ".");
    filewire_accept();
    walk(handle, 0);
    filewire_finish(&counts);
}
