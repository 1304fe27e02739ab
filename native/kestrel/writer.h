#ifndef KESTREL_WRITER_H
#define KESTREL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Builds text in a buffer of fixed size. What does not fit sets `overflow` and is left out. */
struct writer {
    char *bytes;
    size_t capacity;
    size_t length;
    bool overflow;
};

void write_bytes(struct writer *writer, const void *bytes, size_t length);
void write_text(struct writer *writer, const char *text);
void write_integer(struct writer *writer, int64_t value);

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
void write_quoted(struct writer *writer, const char *text);

/* Whether write_quoted would keep every byte. */
bool text_is_utf8(const char *text);

#endif
