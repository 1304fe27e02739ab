#include "listing.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "next.h"
#include "tree.h"

_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one struct dirent");

/* A stream that has been read from. */
struct opened {
    DIR *stream;
    struct listing listing;
    size_t at;
    struct opened *next;
};

static struct opened *all_opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int compare_names(const void *left, const void *right)
{
    return strcmp((*(struct dirent *const *)left)->d_name, (*(struct dirent *const *)right)->d_name);
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool append(struct listing *listing, size_t *room, const struct dirent *entry)
{
    if (listing->count == *room) {
        *room = *room == 0 ? 64 : 2 * *room;
        struct dirent **grown = realloc(listing->entries, *room * sizeof *grown);
        if (grown == NULL)
            return false;
        listing->entries = grown;
    }
    struct dirent *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return false;
    memcpy(copy, entry, entry->d_reclen < sizeof *copy ? entry->d_reclen : sizeof *copy);
    listing->entries[listing->count++] = copy;
    return true;
}

/* Reads what is left of the stream. */
static bool read_stream(DIR *stream, bool with_dots, struct listing *listing)
{
    FIND_NEXT(next_readdir, readdir)
    size_t room = 0;
    *listing = (struct listing){NULL, 0};
    errno = 0;
    for (const struct dirent *entry; (entry = next_readdir(stream)) != NULL; errno = 0) {
        if (is_dots(entry->d_name) && !with_dots)
            continue;
        if (!append(listing, &room, entry)) {
            errno = ENOMEM;
            break;
        }
    }
    if (errno != 0) {
        int why = errno;
        listing_free(listing);
        errno = why;
        return false;
    }
    if (listing->count > 1)
        qsort(listing->entries, listing->count, sizeof *listing->entries, compare_names);
    return true;
}

bool listing_read_fd(int fd, struct listing *listing)
{
    FIND_NEXT(next_fdopendir, fdopendir)
    FIND_NEXT(next_closedir, closedir)
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = own < 0 ? NULL : next_fdopendir(own);
    if (stream == NULL) {
        if (own >= 0)
            close(own);
        return false;
    }
    bool complete = read_stream(stream, false, listing);
    next_closedir(stream);
    return complete;
}

void listing_free(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->entries[i]);
    free(listing->entries);
    *listing = (struct listing){NULL, 0};
}

/* The place in the list that leads to the stream, or to NULL. Called with the lock held. */
static struct opened **find_opened(const DIR *stream)
{
    struct opened **link = &all_opened;
    while (*link != NULL && (*link)->stream != stream)
        link = &(*link)->next;
    return link;
}

static struct opened *open_listing(DIR *stream)
{
    struct stat status;
    FIND_NEXT(next_fstat, fstat)
    struct opened *opened = malloc(sizeof *opened);
    if (opened == NULL || next_fstat(dirfd(stream), &status) != 0 || !read_stream(stream, true, &opened->listing)) {
        free(opened);
        return NULL;
    }
    for (size_t i = 0; i < opened->listing.count; i++) {
        struct dirent *entry = opened->listing.entries[i];
        const struct tree_file *file = tree_find(status.st_dev, entry->d_ino);
        entry->d_ino = file == NULL ? 1 : file->number;
        entry->d_off = (off_t)i + 1;
    }
    opened->stream = stream;
    opened->at = 0;
    opened->next = all_opened;
    all_opened = opened;
    return opened;
}

struct dirent *readdir(DIR *stream)
{
    FIND_NEXT(next_readdir, readdir)
    if (!tree_has_directory(dirfd(stream)))
        return next_readdir(stream);
    pthread_mutex_lock(&lock);
    struct opened *opened = *find_opened(stream);
    if (opened == NULL)
        opened = open_listing(stream);
    struct dirent *entry = NULL;
    if (opened != NULL && opened->at < opened->listing.count)
        entry = opened->listing.entries[opened->at++];
    pthread_mutex_unlock(&lock);
    return entry;
}

struct dirent64 *readdir64(DIR *stream) __attribute__((alias("readdir")));

static void forget(const DIR *stream)
{
    pthread_mutex_lock(&lock);
    struct opened **link = find_opened(stream);
    struct opened *opened = *link;
    if (opened != NULL) {
        *link = opened->next;
        listing_free(&opened->listing);
        free(opened);
    }
    pthread_mutex_unlock(&lock);
}

int closedir(DIR *stream)
{
    FIND_NEXT(next_closedir, closedir)
    forget(stream);
    return next_closedir(stream);
}

void rewinddir(DIR *stream)
{
    FIND_NEXT(next_rewinddir, rewinddir)
    forget(stream);
    next_rewinddir(stream);
}

long telldir(DIR *stream)
{
    FIND_NEXT(next_telldir, telldir)
    if (!tree_has_directory(dirfd(stream)))
        return next_telldir(stream);
    pthread_mutex_lock(&lock);
    const struct opened *opened = *find_opened(stream);
    long at = opened == NULL ? 0 : (long)opened->at;
    pthread_mutex_unlock(&lock);
    return at;
}

void seekdir(DIR *stream, long at)
{
    FIND_NEXT(next_seekdir, seekdir)
    if (!tree_has_directory(dirfd(stream))) {
        next_seekdir(stream, at);
        return;
    }
    pthread_mutex_lock(&lock);
    struct opened *opened = *find_opened(stream);
    if (opened == NULL)
        opened = open_listing(stream);
    if (opened != NULL)
        opened->at = (size_t)at;
    pthread_mutex_unlock(&lock);
}

/* scandir's own calls of readdir stay inside libc, so what it found is sorted here, unless the caller chose an order.
 * alphasort goes by the locale, which the caller fixes with LC_ALL. */
int scandir(const char *path, struct dirent ***entries, int (*filter)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **))
{
    FIND_NEXT(next_scandir, scandir)
    int count = next_scandir(path, entries, filter, compare);
    if (count > 1 && compare == NULL)
        qsort(*entries, (size_t)count, sizeof **entries, compare_names);
    return count;
}

int scandir64(const char *path, struct dirent64 ***entries, int (*filter)(const struct dirent64 *),
              int (*compare)(const struct dirent64 **, const struct dirent64 **)) __attribute__((alias("scandir")));
