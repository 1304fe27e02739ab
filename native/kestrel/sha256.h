#ifndef KESTREL_SHA256_H
#define KESTREL_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* FIPS 180-4. */
void sha256(const void *bytes, size_t length, uint8_t digest[32]);

#endif
