#ifndef HOLDER_ROOT_H
#define HOLDER_ROOT_H

#include "options.h"

/*
 * Leave the host's file tree for an empty one that holds, read-only, the places that were named, the program, /proc of the
 * caller's own process namespace and a few devices. The caller is alone in its mount namespace. Returns NULL, or what could
 * not be done, with errno.
 */
const char *root_enter(const struct options *options);

#endif
