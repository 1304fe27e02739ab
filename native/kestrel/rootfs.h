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

/* Before power off: nothing written may be lost, and the disk is left clean. */
void rootfs_leave(void);

#endif
