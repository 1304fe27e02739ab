/* settle: a library to preload under mkfs programs, so that they see a tree that is the same on every machine.
 *
 * VOLANT_SETTLE_TREE        the tree's path; without it nothing of files changes
 * VOLANT_SETTLE_TIME_S      what the clock shows, in seconds since 1970; without it the clock runs
 * VOLANT_SETTLE_EARLIEST_S  files that are older seem to be of this time
 * VOLANT_SETTLE_LATEST_S    files that are newer seem to be of this time
 * VOLANT_SETTLE_SEED        hexadecimal; random bytes and UUIDs follow from it; without it they stay random
 *
 * Contents, modes, owners, attributes and names are never changed. Made for glibc 2.33 and later on 64-bit machines,
 * where stat is a function of its own and struct stat and struct stat64, struct dirent and struct dirent64 are one. */
#ifndef SETTLE_NEXT_H
#define SETTLE_NEXT_H

#include <dlfcn.h>
#include <string.h>

/* What the program would have called, which may be another preloaded library's (fakeroot's).
 * Threads that look it up at the same time find the same. */
#define FIND_NEXT(pointer, name)                                                                                                 \
    static __typeof__(&name) pointer;                                                                                            \
    if (pointer == NULL) {                                                                                                       \
        void *symbol = dlsym(RTLD_NEXT, #name);                                                                                  \
        memcpy(&pointer, &symbol, sizeof pointer);                                                                               \
    }

#endif
