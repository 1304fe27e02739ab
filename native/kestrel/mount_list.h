#ifndef KESTREL_MOUNT_LIST_H
#define KESTREL_MOUNT_LIST_H

#include <stdbool.h>

#include "config.h"
#include "place.h"

/* The member `mounts` of the document: further disks, and where they are mounted. */
bool mount_list_read(const struct place *root, struct config *config);

#endif
