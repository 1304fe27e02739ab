#include "message.h"

#include <string.h>

#include "frame.h"

static size_t collect(struct message_buffer *buffer, size_t wanted, const uint8_t *bytes, size_t length)
{
    size_t missing = wanted - buffer->length;
    size_t taken = length < missing ? length : missing;
    if (taken > 0)
        memcpy(buffer->bytes + buffer->length, bytes, taken);
    buffer->length += taken;
    return taken;
}

enum message_state message_collect(struct message_buffer *buffer, const uint8_t *bytes, size_t length, size_t *taken)
{
    *taken = 0;
    if (buffer->length < MESSAGE_HEAD) {
        *taken = collect(buffer, MESSAGE_HEAD, bytes, length);
        if (buffer->length < MESSAGE_HEAD)
            return MESSAGE_INCOMPLETE;
    }
    uint32_t size = load_u32(buffer->bytes);
    if (size == 0 || size > MESSAGE_MAX)
        return MESSAGE_BAD;
    *taken += collect(buffer, MESSAGE_HEAD + size, bytes + *taken, length - *taken);
    return buffer->length == MESSAGE_HEAD + size ? MESSAGE_WHOLE : MESSAGE_INCOMPLETE;
}

bool message_decode(struct message_buffer *buffer, struct json *json)
{
    size_t size = buffer->length - MESSAGE_HEAD;
    buffer->length = 0;
    return json_parse(json, (char *)buffer->bytes + MESSAGE_HEAD, size);
}
