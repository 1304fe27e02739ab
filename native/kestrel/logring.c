#include "logring.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "frame.h"
#include "loop.h"

/* Positions count bytes since boot; the ring holds those from `tail` to `head`. */
static uint8_t ring[LOG_RING_SIZE];
static uint64_t head, tail;
static uint64_t oldest = 1, next = 1;

static void copy_in(uint64_t position, const void *bytes, size_t length)
{
    size_t at = (size_t)(position % LOG_RING_SIZE);
    size_t first = length < LOG_RING_SIZE - at ? length : LOG_RING_SIZE - at;
    memcpy(ring + at, bytes, first);
    memcpy(ring, (const uint8_t *)bytes + first, length - first);
}

static void copy_out(uint64_t position, uint8_t *bytes, size_t length)
{
    size_t at = (size_t)(position % LOG_RING_SIZE);
    size_t first = length < LOG_RING_SIZE - at ? length : LOG_RING_SIZE - at;
    memcpy(bytes, ring + at, first);
    memcpy(bytes + first, ring, length - first);
}

static size_t record_size(uint64_t position)
{
    uint8_t length[4];
    copy_out(position + 20, length, sizeof length);
    return LOG_HEAD + load_u32(length);
}

void logring_add(enum log_source source, bool continued, const void *bytes, size_t length)
{
    while (head + LOG_HEAD + length - tail > LOG_RING_SIZE) {
        tail += record_size(tail);
        oldest++;
    }
    uint8_t record[LOG_HEAD] = {0};
    store_u64(record, next);
    store_u64(record + 8, wall_clock_ns());
    record[16] = (uint8_t)source;
    record[17] = continued ? 1 : 0;
    store_u32(record + 20, (uint32_t)length);
    copy_in(head, record, LOG_HEAD);
    if (length > 0)
        copy_in(head + LOG_HEAD, bytes, length);
    head += LOG_HEAD + length;
    next++;
}

void logring_say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    logring_add(LOG_KESTREL, false, line, strlen(line));
}

void log_line_feed(struct log_line *line, const char *bytes, size_t length)
{
    while (length > 0) {
        const char *end = memchr(bytes, '\n', length);
        size_t part = end != NULL ? (size_t)(end - bytes) : length;
        size_t room = LOG_LINE_MAX - line->length;
        size_t taken = part < room ? part : room;
        memcpy(line->bytes + line->length, bytes, taken);
        line->length += taken;
        bytes += taken;
        length -= taken;
        if (length == 0)
            return; /* a full buffer waits, for the line may end right here */
        bool ended = *bytes == '\n';
        if (ended) {
            bytes++;
            length--;
        }
        if (ended && line->terminal && line->length > 0 && line->bytes[line->length - 1] == '\r')
            line->length--;
        logring_add(line->source, !ended, line->bytes, line->length);
        line->length = 0;
    }
}

void log_line_close(struct log_line *line)
{
    if (line->length > 0)
        logring_add(line->source, false, line->bytes, line->length);
    line->length = 0;
}

uint64_t logring_oldest(void)
{
    return oldest;
}

uint64_t logring_next(void)
{
    return next;
}

struct log_cursor logring_find(uint64_t after)
{
    struct log_cursor cursor = {tail};
    if (after + 1 >= next || after == UINT64_MAX)
        cursor.position = head;
    else
        for (uint64_t sequence = oldest; sequence <= after; sequence++)
            cursor.position += record_size(cursor.position);
    return cursor;
}

bool logring_has(const struct log_cursor *cursor)
{
    return cursor->position < head;
}

size_t logring_read(struct log_cursor *cursor, uint8_t *to, size_t room)
{
    if (cursor->position < tail)
        cursor->position = tail;
    if (cursor->position == head)
        return 0;
    size_t size = record_size(cursor->position);
    if (size > room)
        return 0;
    copy_out(cursor->position, to, size);
    cursor->position += size;
    return size;
}
