#include "record.h"

#include <string.h>

#include "frame.h"

enum { SIGNAL_MAX = 64, SIDE_MAX = 9999 };

static bool is_good_head(const struct record_reader *reader)
{
    switch (reader->head[0]) {
    case RECORD_STDIN:
        return reader->left <= RECORD_MAX && (reader->reopens || !(reader->input_ended && reader->left > 0));
    case RECORD_RESIZE:
        return reader->sizes && reader->left == 4;
    default:
        return reader->head[0] == RECORD_SIGNAL && reader->left == 1;
    }
}

static bool is_good_side(const uint8_t *bytes)
{
    uint16_t side = load_u16(bytes);
    return side >= 1 && side <= SIDE_MAX;
}

static bool is_good_small(const struct record_reader *reader)
{
    if (reader->head[0] == RECORD_SIGNAL)
        return reader->small[0] >= 1 && reader->small[0] <= SIGNAL_MAX;
    return is_good_side(reader->small) && is_good_side(reader->small + 2);
}

static bool take_head(struct record_reader *reader, void (*take)(void *owner, const struct record_part *part), void *owner)
{
    reader->head_length = 0;
    reader->small_length = 0;
    reader->left = load_u32(reader->head + 1);
    if (!is_good_head(reader))
        return false;
    if (reader->left > 0) {
        reader->input_ended = reader->head[0] == RECORD_STDIN ? false : reader->input_ended;
    } else if (!reader->input_ended || reader->reopens) {
        reader->input_ended = true;
        take(owner, &(struct record_part){.type = RECORD_STDIN, .ends_input = true});
    }
    return true;
}

bool record_feed(struct record_reader *reader, const uint8_t *bytes, size_t length, size_t *heads,
                 void (*take)(void *owner, const struct record_part *part), void *owner)
{
    while (length > 0) {
        bool in_head = reader->left == 0;
        size_t missing = in_head ? RECORD_HEAD - reader->head_length : reader->left;
        size_t taken = length < missing ? length : missing;
        if (in_head) {
            memcpy(reader->head + reader->head_length, bytes, taken);
            reader->head_length += taken;
            *heads += taken;
            if (reader->head_length == RECORD_HEAD && !take_head(reader, take, owner))
                return false;
        } else {
            reader->left -= (uint32_t)taken;
            if (reader->head[0] == RECORD_STDIN) {
                take(owner, &(struct record_part){.type = RECORD_STDIN, .bytes = bytes, .length = taken});
            } else {
                memcpy(reader->small + reader->small_length, bytes, taken);
                reader->small_length += taken;
                *heads += taken;
                if (reader->left == 0 && !is_good_small(reader))
                    return false;
                if (reader->left == 0)
                    take(owner, &(struct record_part){.type = reader->head[0], .bytes = reader->small, .length = reader->small_length});
            }
        }
        bytes += taken;
        length -= taken;
    }
    return true;
}
