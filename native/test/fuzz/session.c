/* Frames, streams and opening messages. A kind of stream stands in for the real ones: it does with its stream whatever its bytes say. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "message.h"
#include "staged.h"
#include "stream.h"

enum { PIECES = 4 };

static size_t live;

struct puppet {
    size_t kept;
    size_t to_say;
};

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    struct puppet *puppet = stream->owner;
    puppet->kept += length;
    fuzz_must(puppet->kept <= WINDOW_MAX, "more than the window is kept");
    for (size_t i = 0; i < length && i < 64; i++) {
        switch (bytes[i] & 7) {
        case 0:
            stream_consumed(stream, puppet->kept);
            puppet->kept = 0;
            break;
        case 1:
            stream_end(stream);
            break;
        case 2:
            stream_reset(stream);
            break;
        case 3:
            puppet->to_say += (size_t)bytes[i] * 1000;
            break;
        default:
            break;
        }
    }
}

static void host_ended(struct stream *stream)
{
    stream_end(stream);
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    struct puppet *puppet = stream->owner;
    size_t length = puppet->to_say < room ? puppet->to_say : room;
    memset(to, 'p', length);
    puppet->to_say -= length;
    return length;
}

static void closed(struct stream *stream, bool lost)
{
    (void)lost;
    free(stream->owner);
    live--;
}

static const struct stream_kind PUPPET = {receive, host_ended, produce, closed};

static void open_puppet(struct stream *stream, const struct json *message)
{
    const char *kind = json_text(message, json_member(message, 0, "open"));
    if (kind == NULL) {
        stream_refuse(stream, "malformed", "open: missing");
    } else if (strcmp(kind, "worse") == 0) {
        session_violate("worse");
    } else {
        stream->owner = calloc(1, sizeof(struct puppet));
        stream->kind = &PUPPET;
        live++;
    }
}

static void drain(void)
{
    static uint8_t out[2 * (PAYLOAD_OUT_MAX + 16)];
    size_t total = 0;
    for (size_t length; (length = session_produce(out, sizeof out)) > 0;) {
        fuzz_must(length <= sizeof out, "more was put than there is room for");
        total += length;
        fuzz_must(total < (size_t)STREAMS_MAX * (2 * WINDOW_MAX), "the session has no end of things to say");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < PIECES)
        return 0;
    session_begin(open_puppet);
    for (size_t at = PIECES, turn = 0; at < size; turn++) {
        size_t piece = 1 + (size_t)bytes[turn % PIECES] * 16, length = size - at < piece ? size - at : piece;
        uint8_t *own = fuzz_copy(bytes + at, length);
        session_receive(own, length);
        free(own);
        if (bytes[turn % PIECES] % 3 != 0)
            drain();
        at += length;
    }
    drain();
    session_end();
    fuzz_must(live == 0, "a stream outlived its session");
    return 0;
}
