/* Records of exec and attach streams: what they hold must not depend on how they were cut. */

#include "fuzz.h"
#include "record.h"

struct seen {
    size_t length;
    size_t handed; /* stdin's bytes, which are charged to the window until they are passed on */
    uint8_t bytes[1u << 16];
};

static void put(struct seen *seen, const void *bytes, size_t length)
{
    if (seen->length + length <= sizeof seen->bytes) {
        memcpy(seen->bytes + seen->length, bytes, length);
        seen->length += length;
    }
}

static void see(void *owner, const struct record_part *part)
{
    struct seen *seen = owner;
    if (part->type == RECORD_STDIN && !part->ends_input) {
        put(seen, part->bytes, part->length); /* pieces run together */
        seen->handed += part->length;
        return;
    }
    uint8_t mark[3] = {0xff, part->type, part->ends_input};
    put(seen, mark, sizeof mark);
    put(seen, part->bytes != NULL ? part->bytes : mark, part->length);
}

static bool feed(struct seen *seen, uint8_t kind, const uint8_t *bytes, size_t size, size_t piece, size_t *heads)
{
    struct record_reader reader = {.sizes = (kind & 1) != 0, .reopens = (kind & 2) != 0};
    seen->length = seen->handed = *heads = 0;
    for (size_t at = 0; at < size;) {
        size_t length = size - at < piece ? size - at : piece;
        uint8_t *own = fuzz_copy(bytes + at, length);
        bool good = record_feed(&reader, own, length, heads, see, seen);
        free(own);
        if (!good)
            return false;
        at += length;
    }
    fuzz_must(*heads + seen->handed == size, "bytes that nobody accounts for");
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct seen whole, pieces;
    size_t heads;
    if (size < 1)
        return 0;
    bool good = feed(&whole, bytes[0], bytes + 1, size - 1, size, &heads);
    fuzz_must(feed(&pieces, bytes[0], bytes + 1, size - 1, 1, &heads) == good, "in pieces it is judged otherwise");
    fuzz_must(!good || (whole.length == pieces.length && memcmp(whole.bytes, pieces.bytes, whole.length) == 0), "in pieces it holds something else");
    return 0;
}
