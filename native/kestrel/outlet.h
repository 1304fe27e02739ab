#ifndef KESTREL_OUTLET_H
#define KESTREL_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

/* Bytes of the host on their way into a descriptor that may not take them yet: a program's stdin, a connection.
   What all outlets keep together is bounded by OUTLETS_KEEP_MAX, whatever each stream's window allows. */

enum { CHUNK_BYTES = 16384, OUTLETS_KEEP_MAX = 20 * 1048576 };

struct chunk;

struct outlet {
    struct watch watch; /* fd -1: what comes is thrown away, unless `held` */
    bool held;          /* its descriptor is still to come */
    bool writable;
    bool end_wanted;
    struct chunk *first;
    struct chunk *last;
    size_t start;  /* of what waits in the first chunk */
    size_t length; /* of all that waits */
    /* So many bytes are gone: written, or thrown away. */
    void (*passed)(struct outlet *outlet, size_t length);
    void *owner;
};

/* Takes the descriptor, which must not block. False with errno set. */
bool outlet_open(struct outlet *outlet, int fd);

/* False when the bound does not let it be kept: the bytes are lost then, and the outlet's owner gives up. */
bool outlet_put(struct outlet *outlet, const uint8_t *bytes, size_t length);

/* Close the descriptor (a socket: for writing) once everything is written. */
void outlet_end(struct outlet *outlet);

/* Throw away what waits. */
void outlet_drop(struct outlet *outlet);

/* Close now; what waits is thrown away. */
void outlet_close(struct outlet *outlet);

#endif
