/* Messages and their JSON, whole and in pieces: both must come to the same. */

#include "fuzz.h"
#include "json.h"
#include "message.h"

static enum message_state read_message(struct message_buffer *buffer, const uint8_t *bytes, size_t size, size_t piece, struct json *json)
{
    enum message_state state = MESSAGE_INCOMPLETE;
    buffer->length = 0;
    for (size_t at = 0, taken; at < size && state == MESSAGE_INCOMPLETE; at += taken) {
        size_t length = size - at < piece ? size - at : piece;
        uint8_t *own = fuzz_copy(bytes + at, length);
        state = message_collect(buffer, own, length, &taken);
        free(own);
    }
    return state == MESSAGE_WHOLE && !message_decode(buffer, json) ? MESSAGE_BAD : state;
}

/* Every node lies within its container, and every string within the text. */
static void walk(const struct json *json, uint32_t node, unsigned depth)
{
    enum json_type type = json_type(json, node);
    fuzz_must(node < json->count && depth <= JSON_DEPTH_MAX, "a node beyond the others");
    if (type == JSON_STRING)
        fuzz_must(json->nodes[node].start + json->nodes[node].length < json->size, "a string beyond the text");
    if (type != JSON_OBJECT && type != JSON_ARRAY)
        return;
    for (uint32_t at = json_first(json, node); at != 0; at = json_following(json, node, at))
        walk(json, at, depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct message_buffer buffer;
    static struct json json;
    enum message_state whole = read_message(&buffer, bytes, size, size > 0 ? size : 1, &json);
    if (whole == MESSAGE_WHOLE)
        walk(&json, 0, 1);
    fuzz_must(read_message(&buffer, bytes, size, 3, &json) == whole, "in pieces it comes to something else");
    return 0;
}
