/* Which files are the tree's, and the numbers that they go by. */
#ifndef SETTLE_TREE_H
#define SETTLE_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Below it are the root itself and what some file systems keep for themselves (btrfs: 256 is the root). */
enum { FIRST_INODE = 256 };

#pragma GCC visibility push(hidden)

struct tree_file {
    dev_t device;
    ino_t inode;
    uint64_t number; /* counted from FIRST_INODE in the order of paths */
    uint64_t links;  /* names within the tree; of a directory, 2 and its subdirectories */
};

/* NULL when the file is not the tree's. */
const struct tree_file *tree_find(dev_t device, ino_t inode);

/* Is it open, and a directory of the tree? */
bool tree_has_directory(int fd);

/* `text` as a number, or `fallback` when the variable is absent. A variable that is no number ends the program: it is a
 * bug of whoever set it, and an image that differs from machine to machine is worse than none. */
int64_t tree_read_number(const char *variable, int64_t fallback);

#pragma GCC visibility pop

#endif
