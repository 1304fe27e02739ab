/* Directories of the tree, listed in the order of the names' bytes. */
#ifndef SETTLE_LISTING_H
#define SETTLE_LISTING_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(hidden)

struct listing {
    struct dirent **entries;
    size_t count;
};

/* All but `.` and `..` of an open directory, sorted. The descriptor stays open. */
bool listing_read_fd(int fd, struct listing *listing);
void listing_free(struct listing *listing);

#pragma GCC visibility pop

#endif
