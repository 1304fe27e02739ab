#include "writer.h"

#include <stdio.h>
#include <string.h>

void write_bytes(struct writer *writer, const void *bytes, size_t length)
{
    if (writer->overflow || writer->capacity - writer->length < length) {
        writer->overflow = true;
        return;
    }
    memcpy(writer->bytes + writer->length, bytes, length);
    writer->length += length;
}

void write_text(struct writer *writer, const char *text)
{
    write_bytes(writer, text, strlen(text));
}

void write_integer(struct writer *writer, int64_t value)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)value);
    write_bytes(writer, digits, (size_t)length);
}

static size_t utf8_length(const unsigned char *at)
{
    size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

void write_quoted(struct writer *writer, const char *text)
{
    write_bytes(writer, "\"", 1);
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        if (*at == '"' || *at == '\\') {
            char escaped[2] = {'\\', (char)*at++};
            write_bytes(writer, escaped, 2);
        } else if (*at < 0x20) {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*at++);
            write_bytes(writer, escaped, 6);
        } else if (*at < 0x80) {
            write_bytes(writer, at++, 1);
        } else {
            size_t length = utf8_length(at);
            if (length > 0)
                write_bytes(writer, at, length);
            else
                write_bytes(writer, "\xef\xbf\xbd", 3);
            at += length > 0 ? length : 1;
        }
    }
    write_bytes(writer, "\"", 1);
}

bool text_is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        size_t length = *at < 0x80 ? 1 : utf8_length(at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}
