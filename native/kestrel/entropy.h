#ifndef KESTREL_ENTROPY_H
#define KESTREL_ENTROPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

/* Credit these bytes, at most ENTROPY_SIZE, to the kernel and reseed from them at once. False with errno set. */
bool entropy_add(const uint8_t *bytes, size_t size);

#endif
