#include "logs.h"

#include <string.h>

#include "logring.h"
#include "staged.h"

struct reader {
    bool used;
    bool follow;
    struct log_cursor cursor;
    struct staged staged;
};

static struct reader readers[STREAMS_MAX];

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    (void)bytes;
    stream_consumed(stream, length);
}

static void closed(struct stream *stream, bool lost)
{
    (void)lost;
    struct reader *reader = stream->owner;
    reader->used = false;
}

static void host_ended(struct stream *stream)
{
    /* Nobody asks any more; what is on its way may still be wanted. */
    struct reader *reader = stream->owner;
    reader->follow = false;
    stream_end(stream);
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    struct reader *reader = stream->owner;
    if (reader->staged.length > 0)
        return staged_take(&reader->staged, to, room);
    size_t length = 0;
    for (;;) {
        size_t size = logring_read(&reader->cursor, to + length, room - length);
        if (size == 0)
            break;
        length += size;
    }
    if (length == 0 && !reader->follow && !logring_has(&reader->cursor))
        stream_end(stream);
    return length;
}

static const struct stream_kind LOGS = {receive, host_ended, produce, closed};

void logs_open(struct stream *stream, const struct json *message)
{
    uint32_t after = json_member(message, 0, "after"), follow = json_member(message, 0, "follow");
    int64_t sequence = 0;
    if (after != 0 && (!json_integer(message, after, &sequence) || sequence < 0)) {
        stream_refuse(stream, "malformed", "after: not a sequence number");
        return;
    }
    struct reader *reader = readers;
    while (reader->used) /* there are as many as streams */
        reader++;
    *reader = (struct reader){.used = true, .follow = follow != 0 && json_type(message, follow) == JSON_TRUE};
    reader->cursor = logring_find((uint64_t)sequence);
    stream->kind = &LOGS;
    stream->owner = reader;
    struct writer writer = staged_begin(&reader->staged);
    write_text(&writer, "{\"ok\":{\"oldest\":");
    write_integer(&writer, (int64_t)logring_oldest());
    write_text(&writer, ",\"next\":");
    write_integer(&writer, (int64_t)logring_next());
    write_text(&writer, "}}");
    staged_finish(&reader->staged, &writer);
}

bool logs_are_drained(void)
{
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (readers[i].used && (readers[i].staged.length > 0 || logring_has(&readers[i].cursor)))
            return false;
    return true;
}
