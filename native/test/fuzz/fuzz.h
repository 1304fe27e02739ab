#ifndef KESTREL_FUZZ_H
#define KESTREL_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the fuzzers share. Each is a program of its own: test/fuzz/NAME.c, with its seeds from the vectors. */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A finding of our own, beside those of the sanitizers. */
static inline void fuzz_must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

/* Of exactly this size, so that one byte too far is seen. */
static inline void *fuzz_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *own = malloc(size > 0 ? size : 1);
    if (own == NULL)
        abort();
    if (size > 0)
        memcpy(own, bytes, size);
    return own;
}

#endif
