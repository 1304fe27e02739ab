#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listing.h"
#include "next.h"

enum { FIRST_SLOTS = 1024 };

static struct tree_file *slots; /* open addressing; a free slot has no links */
static size_t slot_count, used;
static uint64_t next_number = FIRST_INODE;
static pthread_once_t walked = PTHREAD_ONCE_INIT;

static _Noreturn void give_up(const char *what, const char *which)
{
    dprintf(STDERR_FILENO, "settle: %s %s: %s\n", what, which, strerror(errno));
    _exit(1);
}

int64_t tree_read_number(const char *variable, int64_t fallback)
{
    const char *text = getenv(variable);
    if (text == NULL || text[0] == '\0')
        return fallback;
    char *end;
    errno = 0;
    int64_t value = strtoll(text, &end, 10);
    if (*end != '\0' && errno == 0)
        errno = EINVAL;
    if (errno != 0)
        give_up("cannot read", variable);
    return value;
}

static struct tree_file *find_slot(dev_t device, ino_t inode)
{
    uint64_t hash = ((uint64_t)inode + (uint64_t)device * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    size_t at = (size_t)(hash ^ (hash >> 32)) & (slot_count - 1);
    while (slots[at].links != 0 && (slots[at].device != device || slots[at].inode != inode))
        at = (at + 1) & (slot_count - 1);
    return &slots[at];
}

static void grow(void)
{
    struct tree_file *old = slots;
    size_t old_count = slot_count;
    slot_count = old_count == 0 ? FIRST_SLOTS : 2 * old_count;
    slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        give_up("cannot list", "the tree");
    for (size_t i = 0; i < old_count; i++)
        if (old[i].links != 0)
            *find_slot(old[i].device, old[i].inode) = old[i];
    free(old);
}

static void count_file(const struct stat *status)
{
    if (2 * (used + 1) > slot_count)
        grow();
    struct tree_file *slot = find_slot(status->st_dev, status->st_ino);
    if (slot->links == 0) {
        *slot = (struct tree_file){.device = status->st_dev, .inode = status->st_ino, .number = next_number++};
        slot->links = S_ISDIR(status->st_mode) ? 2 : 0;
        used++;
    }
    if (!S_ISDIR(status->st_mode))
        slot->links++;
}

/* Directories still to be looked into, by their paths below the root. */
struct pending {
    struct pending *next;
    char path[];
};

static struct pending *push(struct pending *pending, const char *directory, const char *name)
{
    struct pending *pushed = malloc(sizeof *pushed + strlen(directory) + strlen(name) + 2);
    if (pushed == NULL)
        give_up("cannot list", "the tree");
    char *end = stpcpy(pushed->path, directory);
    if (end != pushed->path)
        *end++ = '/';
    strcpy(end, name);
    pushed->next = pending;
    return pushed;
}

/* Everything in a directory gets its number; its subdirectories come later. So the order is that of names alone. */
static struct pending *count_directory(int root, const char *path, struct pending *pending)
{
    FIND_NEXT(next_fstat, fstat)
    FIND_NEXT(next_fstatat, fstatat)
    const char *shown = path[0] == '\0' ? "." : path;
    int fd = openat(root, shown, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct listing listing;
    struct stat here, status;
    if (fd < 0 || next_fstat(fd, &here) != 0 || !listing_read_fd(fd, &listing))
        give_up("cannot list", shown);
    for (size_t i = 0; i < listing.count; i++) {
        const char *name = listing.entries[i]->d_name;
        if (next_fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            give_up("cannot look at", name);
        count_file(&status);
        if (!S_ISDIR(status.st_mode))
            continue;
        find_slot(here.st_dev, here.st_ino)->links++;
        pending = push(pending, path, name);
    }
    listing_free(&listing);
    close(fd);
    return pending;
}

static void walk_tree(void)
{
    FIND_NEXT(next_fstat, fstat)
    int kept = errno;
    const char *path = getenv("VOLANT_SETTLE_TREE");
    if (path == NULL || path[0] == '\0')
        return;
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    if (root < 0 || next_fstat(root, &status) != 0)
        give_up("cannot open", path);
    count_file(&status);
    for (struct pending *pending = push(NULL, "", ""); pending != NULL;) {
        struct pending *done = pending;
        pending = count_directory(root, done->path, done->next);
        free(done);
    }
    close(root);
    errno = kept;
}

const struct tree_file *tree_find(dev_t device, ino_t inode)
{
    pthread_once(&walked, walk_tree);
    if (slot_count == 0)
        return NULL;
    const struct tree_file *slot = find_slot(device, inode);
    return slot->links == 0 ? NULL : slot;
}

bool tree_has_directory(int fd)
{
    FIND_NEXT(next_fstat, fstat)
    struct stat status;
    return next_fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) && tree_find(status.st_dev, status.st_ino) != NULL;
}
