#ifndef KESTREL_ROOTFS_H
#define KESTREL_ROOTFS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* The root: read-only image, a writable layer above it, the switch into both. */

bool rootfs_mount_image(const char *device, const char *type);
bool rootfs_has_image(void);

/* False with the reason in `text`. */
bool rootfs_switch(const struct config *config, char *text, size_t size);

/* The writable layer lies on a disk. */
bool rootfs_has_disk(void);

/* Only with such a disk. Freezing waits for those who write; false with errno set, EBUSY when it is frozen. */
bool rootfs_freeze(void);
/* False when it was not frozen. */
bool rootfs_thaw(void);

/* Before power off: nothing written may be lost, and the disk is left clean. */
void rootfs_leave(void);

#endif
