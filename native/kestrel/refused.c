#include <stdlib.h>

#include "staged.h"
#include "stream.h"

/* Streams whose opening message was answered with an error. */

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    (void)bytes;
    stream_consumed(stream, length);
}

static void host_ended(struct stream *stream)
{
    (void)stream;
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    return staged_take(stream->owner, to, room);
}

static void closed(struct stream *stream, bool lost)
{
    (void)lost;
    free(stream->owner);
}

static const struct stream_kind REFUSED = {receive, host_ended, produce, closed};

void stream_refuse(struct stream *stream, const char *code, const char *text)
{
    struct staged *staged = calloc(1, sizeof *staged);
    if (staged == NULL) {
        session_violate("memory");
        return;
    }
    staged_error(staged, code, text);
    stream->kind = &REFUSED;
    stream->owner = staged;
    stream_end(stream);
}
