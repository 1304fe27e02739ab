#ifndef KESTREL_LOGRING_H
#define KESTREL_LOGRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the workload wrote: the last 1 MiB of it, in records as the protocol's section 4.3 lays them out. */

enum log_source { LOG_STDOUT = 1, LOG_STDERR, LOG_KESTREL };
enum { LOG_LINE_MAX = 16384, LOG_HEAD = 24, LOG_RING_SIZE = 1048576 };

/* A source's line that has no end yet. */
struct log_line {
    enum log_source source;
    bool terminal; /* its lines end with CR LF */
    size_t length;
    char bytes[LOG_LINE_MAX];
};

void logring_add(enum log_source source, bool continued, const void *bytes, size_t length);
void logring_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

void log_line_feed(struct log_line *line, const char *bytes, size_t length);
void log_line_close(struct log_line *line);

/* Sequence numbers: of the oldest record there is, and of the next one to come. */
uint64_t logring_oldest(void);
uint64_t logring_next(void);

/* Where a reader stands. */
struct log_cursor {
    uint64_t position;
};

struct log_cursor logring_find(uint64_t after);

/* Copy the record at the cursor and step on; 0 when there is none, or it is larger than `room`. */
size_t logring_read(struct log_cursor *cursor, uint8_t *to, size_t room);
bool logring_has(const struct log_cursor *cursor);

#endif
