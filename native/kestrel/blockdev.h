#ifndef KESTREL_BLOCKDEV_H
#define KESTREL_BLOCKDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Find the block device with this serial, or else this name, waiting at most `limit_ms` for it to appear. `path` gets /dev/NAME. */
bool blockdev_find(const char *wanted, uint64_t limit_ms, char *path, size_t size);

#endif
