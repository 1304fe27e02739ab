#ifndef KESTREL_ENTROPY_H
#define KESTREL_ENTROPY_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* Credit these bytes to the kernel and reseed from them at once. */
bool entropy_add(const uint8_t bytes[ENTROPY_SIZE]);

#endif
