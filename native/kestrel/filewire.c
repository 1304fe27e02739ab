#include "filewire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "message.h"
#include "writer.h"

enum { BUFFER_SIZE = RECORD_HEAD + RECORD_MAX + 1, TEXT_MAX = 512 };

static int wire = -1;
static uint8_t out[BUFFER_SIZE + FILE_PIECE];
static size_t out_length;
static uint8_t in[BUFFER_SIZE];
static size_t in_start, in_length;

void filewire_open(int fd)
{
    wire = fd;
}

static void (*tidy_up)(void);

void filewire_at_end(void (*tidy)(void))
{
    tidy_up = tidy;
}

static void tidy(void)
{
    if (tidy_up != NULL)
        tidy_up();
    tidy_up = NULL;
}

static void write_all(const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(wire, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) { /* the stream is gone */
            tidy();
            _exit(1);
        }
        bytes += written;
        length -= (size_t)written;
    }
}

static void flush(void)
{
    write_all(out, out_length);
    out_length = 0;
}

static void send_message(struct writer *writer, uint8_t *bytes)
{
    store_u32(bytes, (uint32_t)(writer->length - MESSAGE_HEAD));
    write_all(bytes, writer->length);
}

/* Everything is said. What the host still sends is read, for a socket that is closed with unread bytes loses what it has said. */
static _Noreturn void leave(void)
{
    uint8_t bytes[4096];
    shutdown(wire, SHUT_WR);
    for (;;) {
        ssize_t length = read(wire, bytes, sizeof bytes);
        if (length == 0 || (length < 0 && errno != EINTR))
            _exit(0);
    }
}

void filewire_accept(void)
{
    uint8_t bytes[32];
    struct writer writer = {.bytes = (char *)bytes, .capacity = sizeof bytes, .length = MESSAGE_HEAD};
    write_text(&writer, "{\"ok\":{}}");
    send_message(&writer, bytes);
}

static void write_error(struct writer *writer, const char *code, const char *text, const char *path)
{
    write_text(writer, "{\"error\":{\"code\":");
    write_quoted(writer, code);
    write_text(writer, ",\"message\":");
    write_quoted(writer, text);
    if (path != NULL) {
        write_text(writer, ",\"path\":");
        write_quoted(writer, path);
    }
    write_text(writer, "}}");
}

void filewire_refuse(const char *code, const char *text)
{
    static uint8_t bytes[MESSAGE_HEAD + 8 * TEXT_MAX];
    struct writer writer = {.bytes = (char *)bytes, .capacity = sizeof bytes, .length = MESSAGE_HEAD};
    write_error(&writer, code, text, NULL);
    send_message(&writer, bytes);
    leave();
}

uint8_t *filewire_room(void)
{
    if (out_length + RECORD_HEAD + RECORD_MAX > sizeof out)
        flush();
    return out + out_length + RECORD_HEAD;
}

void filewire_send(uint8_t type, size_t length)
{
    out[out_length] = type;
    store_u32(out + out_length + 1, (uint32_t)length);
    out_length += RECORD_HEAD + length;
}

static void write_count(struct writer *writer, const char *name, uint64_t value)
{
    write_text(writer, name);
    write_integer(writer, (int64_t)value);
}

void filewire_finish(const struct file_counts *counts)
{
    struct writer writer = {.bytes = (char *)filewire_room(), .capacity = RECORD_MAX};
    write_count(&writer, "{\"entries\":", counts->entries);
    write_count(&writer, ",\"bytes\":", counts->bytes);
    if (counts->skipped > 0)
        write_count(&writer, ",\"skipped\":", counts->skipped);
    if (counts->torn > 0)
        write_count(&writer, ",\"torn\":", counts->torn);
    write_text(&writer, "}");
    filewire_send(FILE_END, writer.length);
    flush();
    leave();
}

void filewire_fail(const char *code, const char *text, const char *path)
{
    tidy();
    struct writer writer = {.bytes = (char *)filewire_room(), .capacity = RECORD_MAX};
    write_error(&writer, code, text, path);
    filewire_send(FILE_END, writer.length);
    flush();
    leave();
}

const char *filewire_code(int error)
{
    switch (error) {
    case ENOENT:
        return "not_found";
    case ENOTDIR:
        return "not_a_directory";
    case ENOSPC:
    case EDQUOT:
        return "no_space";
    default:
        return "failed";
    }
}

/* Have so many bytes in the buffer; false when the host has ended. */
static bool fill(size_t wanted)
{
    if (in_length == 0)
        in_start = 0;
    if (in_start + wanted > sizeof in - 1) {
        memmove(in, in + in_start, in_length);
        in_start = 0;
    }
    while (in_length < wanted) {
        ssize_t length = read(wire, in + in_start + in_length, sizeof in - 1 - in_start - in_length);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return false;
        in_length += (size_t)length;
    }
    return true;
}

uint8_t filewire_receive(uint8_t **bytes, size_t *length)
{
    if (!fill(RECORD_HEAD))
        filewire_fail("failed", "the host ended before it was done", NULL);
    uint8_t type = in[in_start];
    uint32_t size = load_u32(in + in_start + 1);
    if (type > FILE_END || size > RECORD_MAX || (type == FILE_CONTENT && size == 0))
        filewire_fail("malformed", "no such record", NULL);
    if (!fill(RECORD_HEAD + size))
        filewire_fail("failed", "the host ended before it was done", NULL);
    *bytes = in + in_start + RECORD_HEAD;
    *length = size;
    in_start += RECORD_HEAD + size;
    in_length -= RECORD_HEAD + size;
    return type;
}
