#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entry.h"
#include "filewire.h"
#include "inside.h"

/* In a child: entries of the host, made below one directory. No link on the way leads out of it, and nothing is written through a name
   that somebody else could have made: a file grows under a name of its own and is then renamed. */

enum { BLOCK = 4096, NAMES_MAX = 16 };

static int base = -1;
static struct file_counts counts;
static struct json json;
static char fault[FAULT_TEXT];

/* The directory that the last entry was made in: the next one is often there too. */
static struct {
    int fd;
    char path[ENTRY_PATH_MAX + 1];
} parent = {.fd = -1};

/* Directories whose time is set once nothing more is made in them. They come depth first, so that these are one below the other. */
static struct {
    char *path;
    int fd;
    int64_t mtime_ns;
} waiting[ENTRY_DEPTH_MAX + 1];
static size_t waiting_count;

/* A file that is being written. */
static char temporary[40];

static void remove_temporary(void)
{
    if (temporary[0] != '\0')
        unlinkat(parent.fd, temporary, 0);
}

/* The guest stops. */
static void on_stop(int number)
{
    (void)number;
    remove_temporary();
    _exit(1);
}

static _Noreturn void fail(int error, const char *path)
{
    filewire_fail(filewire_code(error), strerror(error), path);
}

static _Noreturn void fail_message(const char *what, const char *path)
{
    filewire_fail("malformed", what, path);
}

static void make_times(const struct entry *entry, struct timespec times[2])
{
    times[0] = (struct timespec){0, UTIME_OMIT};
    int64_t seconds = entry->mtime_ns / 1000000000, rest = entry->mtime_ns % 1000000000;
    times[1] = rest < 0 ? (struct timespec){seconds - 1, rest + 1000000000} : (struct timespec){seconds, rest};
}

/* Those that `path` does not lie below, or all. */
static void settle_directories(const char *path)
{
    while (waiting_count > 0) {
        size_t last = waiting_count - 1, length = strlen(waiting[last].path);
        bool whole = strcmp(waiting[last].path, ".") == 0;
        if (path != NULL && (whole || (strncmp(path, waiting[last].path, length) == 0 && path[length] == '/')))
            return;
        struct timespec times[2];
        make_times(&(struct entry){.mtime_ns = waiting[last].mtime_ns}, times);
        futimens(waiting[last].fd, times); /* a file system without times is no reason to fail */
        close(waiting[last].fd);
        free(waiting[last].path);
        waiting_count = last;
    }
}

static void await_time(const struct entry *entry, int fd)
{
    char *copy = entry->has_mtime && waiting_count < sizeof waiting / sizeof waiting[0] ? strdup(entry->path) : NULL;
    if (copy == NULL) {
        close(fd);
        return;
    }
    waiting[waiting_count].path = copy;
    waiting[waiting_count].fd = fd;
    waiting[waiting_count].mtime_ns = entry->mtime_ns;
    waiting_count++;
}

/* Missing directories on the way are made, as tar does. */
static int open_directory(char *path)
{
    int fd = open_beneath(base, path, O_RDONLY | O_DIRECTORY);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char *slash = strrchr(path, '/');
    int above = base;
    if (slash != NULL) {
        *slash = '\0';
        above = open_directory(path);
        *slash = '/';
    }
    if (above < 0)
        return -1;
    bool made = mkdirat(above, slash != NULL ? slash + 1 : path, 0755) == 0 || errno == EEXIST;
    int error = errno;
    if (above != base)
        close(above);
    errno = error;
    return made ? open_beneath(base, path, O_RDONLY | O_DIRECTORY) : -1;
}

/* Have `parent` be the directory of the path; its last part. */
static const char *enter_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : (size_t)(slash - path);
    if (parent.fd >= 0 && strncmp(parent.path, slash == NULL ? "." : path, length) == 0 && parent.path[length] == '\0')
        return slash == NULL ? path : slash + 1;
    if (parent.fd >= 0)
        close(parent.fd);
    memcpy(parent.path, slash == NULL ? "." : path, length);
    parent.path[length] = '\0';
    parent.fd = open_directory(parent.path);
    if (parent.fd < 0)
        fail(errno, path);
    return slash == NULL ? path : slash + 1;
}

static void choose_temporary(void)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        number ^= (uint64_t)getpid() << 32 | counts.entries;
    snprintf(temporary, sizeof temporary, ".volant-%016llx", (unsigned long long)number);
}

/* Make something under a name that nobody has. `make` gives -1 with errno set. */
static int make_temporary(int (*make)(const struct entry *entry), const struct entry *entry)
{
    int made = -1;
    for (int i = 0; i < NAMES_MAX && made < 0; i++) {
        choose_temporary();
        made = make(entry);
        if (made < 0 && errno != EEXIST)
            break;
    }
    if (made < 0) {
        temporary[0] = '\0';
        fail(errno, entry->path);
    }
    return made;
}

static int make_file(const struct entry *entry)
{
    (void)entry;
    return openat(parent.fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int make_link(const struct entry *entry)
{
    return symlinkat(entry->target, parent.fd, temporary);
}

static int make_fifo(const struct entry *entry)
{
    return mkfifoat(parent.fd, temporary, entry->mode & 0777);
}

static void appear(const struct entry *entry, const char *name)
{
    if (renameat(parent.fd, temporary, parent.fd, name) != 0)
        fail(errno, entry->path);
    temporary[0] = '\0';
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* Blocks of zeros are left out: the file ends up with holes there. */
static void write_content(int fd, const uint8_t *bytes, size_t length, int64_t at, const char *path)
{
    while (length > 0) {
        size_t until = BLOCK - (size_t)(at % BLOCK), part = length < until ? length : until;
        ssize_t written = part == BLOCK && is_zero(bytes, part) ? (ssize_t)part : pwrite(fd, bytes, part, at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            fail(errno, path);
        bytes += written;
        length -= (size_t)written;
        at += written;
    }
}

static void write_file(const struct entry *entry, const char *name)
{
    /* Content takes the place of the entry's text in the buffer. */
    static char path[ENTRY_PATH_MAX + 1];
    struct entry own = *entry;
    size_t start = (size_t)(name - entry->path);
    strcpy(path, entry->path);
    own.path = path;
    int fd = make_temporary(make_file, &own);
    for (int64_t at = 0; at < own.size;) {
        uint8_t *bytes;
        size_t length;
        if (filewire_receive(&bytes, &length) != FILE_CONTENT)
            fail_message("less content than was announced", path);
        if ((int64_t)length > own.size - at)
            fail_message("more content than was announced", path);
        write_content(fd, bytes, length, at, path);
        at += (int64_t)length;
        counts.bytes += length;
    }
    struct timespec times[2];
    make_times(&own, times);
    if (ftruncate(fd, own.size) != 0 || fchown(fd, own.uid, own.gid) != 0 || fchmod(fd, own.mode) != 0 ||
        (own.has_mtime && futimens(fd, times) != 0) || close(fd) != 0)
        fail(errno, path);
    appear(&own, path + start);
}

static void dress(const struct entry *entry)
{
    struct timespec times[2];
    make_times(entry, times);
    if (fchownat(parent.fd, temporary, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) != 0 ||
        (entry->has_mtime && utimensat(parent.fd, temporary, times, AT_SYMLINK_NOFOLLOW) != 0))
        fail(errno, entry->path);
}

static int open_existing(const struct entry *entry, const char *name)
{
    if (strcmp(entry->path, ".") == 0)
        return open_beneath(base, ".", O_RDONLY | O_DIRECTORY);
    return openat(parent.fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void write_directory(const struct entry *entry, const char *name)
{
    int fd = open_existing(entry, name);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP) && unlinkat(parent.fd, name, 0) == 0)
        errno = ENOENT;
    if (fd < 0 && errno == ENOENT && mkdirat(parent.fd, name, 0700) == 0)
        fd = open_existing(entry, name);
    if (fd < 0 || fchown(fd, entry->uid, entry->gid) != 0 || fchmod(fd, entry->mode) != 0)
        fail(errno, entry->path);
    await_time(entry, fd);
}

static void write_entry(const struct entry *entry)
{
    settle_directories(entry->path);
    const char *name = strcmp(entry->path, ".") == 0 ? "." : enter_parent(entry->path);
    switch (entry->type) {
    case ENTRY_FILE:
        write_file(entry, name);
        break;
    case ENTRY_DIRECTORY:
        write_directory(entry, name);
        break;
    case ENTRY_SYMLINK:
    case ENTRY_FIFO:
        make_temporary(entry->type == ENTRY_FIFO ? make_fifo : make_link, entry);
        dress(entry);
        appear(entry, name);
        break;
    }
    counts.entries++;
}

void files_write(const char *wanted)
{
    struct entry entry;
    uint8_t *bytes;
    size_t length;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    base = root < 0 ? -1 : open_inside(root, wanted, O_RDONLY | O_DIRECTORY);
    if (base < 0)
        filewire_refuse(filewire_code(errno), strerror(errno));
    filewire_at_end(remove_temporary);
    signal(SIGTERM, on_stop);
    filewire_accept();
    for (;;) {
        uint8_t type = filewire_receive(&bytes, &length);
        if (type == FILE_END)
            break;
        if (type != FILE_ENTRY || !json_parse(&json, (char *)bytes, length))
            fail_message("no entry", NULL);
        if (!entry_read(&json, &entry, fault))
            fail_message(fault, NULL);
        write_entry(&entry);
    }
    settle_directories(NULL);
    filewire_finish(&counts);
}
