#ifndef KESTREL_MESSAGE_H
#define KESTREL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

/* A message: 4 bytes of length, then one JSON object. */

enum { MESSAGE_HEAD = 4, MESSAGE_MAX = 65536 };

enum message_state { MESSAGE_INCOMPLETE, MESSAGE_WHOLE, MESSAGE_BAD };

struct message_buffer {
    size_t length;
    uint8_t bytes[MESSAGE_HEAD + MESSAGE_MAX];
};

/* Take bytes until the message is whole; `*taken` says how many. */
enum message_state message_collect(struct message_buffer *buffer, const uint8_t *bytes, size_t length, size_t *taken);

/* Decode a whole message in place and make the buffer ready for the next one. */
bool message_decode(struct message_buffer *buffer, struct json *json);

#endif
