#include "record.h"

#include <string.h>

#include "frame.h"

static bool is_good_head(const struct record_reader *reader)
{
    if (reader->head[0] == RECORD_STDIN)
        return reader->left <= RECORD_MAX && !(reader->input_ended && reader->left > 0);
    return reader->head[0] == RECORD_SIGNAL && reader->left == 1;
}

bool record_feed(struct record_reader *reader, const uint8_t *bytes, size_t length, size_t *heads,
                 void (*take)(void *owner, const struct record_part *part), void *owner)
{
    while (length > 0) {
        if (reader->left == 0) {
            size_t missing = RECORD_HEAD - reader->head_length;
            size_t taken = length < missing ? length : missing;
            memcpy(reader->head + reader->head_length, bytes, taken);
            reader->head_length += taken;
            bytes += taken;
            length -= taken;
            *heads += taken;
            if (reader->head_length < RECORD_HEAD)
                return true;
            reader->head_length = 0;
            reader->left = load_u32(reader->head + 1);
            if (!is_good_head(reader))
                return false;
            if (reader->left == 0 && !reader->input_ended) {
                reader->input_ended = true;
                take(owner, &(struct record_part){.type = RECORD_STDIN, .ends_input = true});
            }
            continue;
        }
        size_t taken = length < reader->left ? length : reader->left;
        if (reader->head[0] == RECORD_SIGNAL && (bytes[0] < 1 || bytes[0] > 64))
            return false;
        reader->left -= (uint32_t)taken;
        take(owner, &(struct record_part){.type = reader->head[0], .bytes = bytes, .length = taken});
        bytes += taken;
        length -= taken;
    }
    return true;
}
