#ifndef KESTREL_STAGED_H
#define KESTREL_STAGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "writer.h"

/* A few bytes on their way out on a stream: answers, errors, the end of an exec. */

enum { STAGED_SIZE = 2048 };

struct staged {
    size_t length;
    size_t sent;
    uint8_t bytes[STAGED_SIZE];
};

/* Up to `room` bytes of what waits. */
size_t staged_take(struct staged *staged, uint8_t *to, size_t room);

/* A message of the protocol: everything the caller writes between these two is its JSON. */
struct writer staged_begin(struct staged *staged);
void staged_finish(struct staged *staged, const struct writer *writer);

/* The record of type 3 that ends an exec or attach stream. */
void staged_end(struct staged *staged, bool signalled, int number);

void staged_error(struct staged *staged, const char *code, const char *text);

#endif
