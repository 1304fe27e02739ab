#ifndef KESTREL_MOUNTS_H
#define KESTREL_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* Mount the further disks of the document in the root that was entered. False with the reason in `text`. */
bool mounts_make(const struct config *config, char *text, size_t size);

/* Leave them clean: nothing is written to them any more. */
void mounts_leave(void);

#endif
