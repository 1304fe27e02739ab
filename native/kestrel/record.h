#ifndef KESTREL_RECORD_H
#define KESTREL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Records of an exec or attach stream, as the host sends them. */

enum { RECORD_HEAD = 5, RECORD_MAX = 65531, RECORD_SMALL = 4 };
enum { RECORD_STDIN = 0, RECORD_STDOUT = 1, RECORD_STDERR = 2, RECORD_END = 3, RECORD_RESIZE = 4, RECORD_SIGNAL = 6 };

struct record_reader {
    bool sizes;    /* a record of type 4 is allowed */
    bool reopens;  /* stdin goes on after its end, as a terminal's does */
    uint8_t head[RECORD_HEAD];
    size_t head_length;
    uint32_t left;
    bool input_ended;
    uint8_t small[RECORD_SMALL]; /* what is not stdin is handed on whole */
    size_t small_length;
};

/* Part of a record's bytes, in order; stdin comes in pieces as it arrives. */
struct record_part {
    uint8_t type;
    bool ends_input;
    const uint8_t *bytes;
    size_t length;
};

/* False on a violation. `*heads` grows by the bytes that were not handed to `take`. */
bool record_feed(struct record_reader *reader, const uint8_t *bytes, size_t length, size_t *heads,
                 void (*take)(void *owner, const struct record_part *part), void *owner);

#endif
