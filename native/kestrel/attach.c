#include "attach.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "outlet.h"
#include "record.h"
#include "shutdown.h"
#include "staged.h"
#include "terminal.h"
#include "workload.h"

/* What was written lies once in a ring, as records; who falls behind goes on with the oldest one there is. */
enum { RING_SIZE = 262144, NEVER_RAN = 127 };

struct onlooker {
    struct onlooker *next;
    struct stream *stream;
    uint64_t position;
    bool detached;
    bool end_staged;
    struct record_reader reader;
    struct staged staged;
};

static struct {
    struct onlooker *onlookers;
    struct onlooker *writer;
    uint8_t *ring; /* there while somebody looks, and always of a workload that is talked with: who comes sees how it began */
    uint64_t head, tail;
    struct outlet input;
    size_t typed; /* characters in `input` that are our own */
    pid_t pid;
    bool tty;
    bool with_stdin;
    bool over;
    int status;
    struct terminal terminal;
} attach = {.input.watch.fd = -1, .terminal = {24, 80, "xterm"}};

static void on_passed(struct outlet *outlet, size_t length)
{
    size_t own = length < attach.typed ? length : attach.typed;
    (void)outlet;
    attach.typed -= own;
    if (attach.writer != NULL)
        stream_consumed(attach.writer->stream, length - own);
}

bool attach_start(const struct config *config, struct program *program)
{
    attach.tty = config->tty;
    attach.with_stdin = config->with_stdin;
    attach.input.passed = on_passed;
    if ((attach.with_stdin || attach.tty) && attach.ring == NULL)
        attach.ring = malloc(RING_SIZE); /* without it there is only nothing to replay */
    bool started = attach.tty ? program_start_on_terminal(&config->command, NULL, &attach.terminal, program)
                              : program_start(&config->command, NULL, attach.with_stdin, program);
    if (!started)
        return false;
    attach.pid = program->pid;
    /* Who has ended its stdin has ended that of the next start too. */
    attach.input.end_wanted = !attach.tty && attach.writer != NULL && attach.writer->reader.input_ended;
    if (program->stdin_fd >= 0)
        outlet_open(&attach.input, program->stdin_fd);
    program->stdin_fd = -1;
    return true;
}

void attach_ended(void)
{
    attach.pid = 0;
    loop_close(&attach.input.watch);
    attach.input.writable = false;
    attach.input.held = attach.with_stdin; /* for the next start */
}

static void copy(uint64_t position, uint8_t *in, uint8_t *out, size_t length)
{
    size_t at = (size_t)(position % RING_SIZE), first = length < RING_SIZE - at ? length : RING_SIZE - at;
    if (in != NULL) {
        memcpy(attach.ring + at, in, first);
        memcpy(attach.ring, in + first, length - first);
    } else {
        memcpy(out, attach.ring + at, first);
        memcpy(out + first, attach.ring, length - first);
    }
}

static size_t record_size(uint64_t position)
{
    uint8_t record[RECORD_HEAD];
    copy(position, NULL, record, RECORD_HEAD);
    return RECORD_HEAD + load_u32(record + 1);
}

void attach_output(size_t source, const char *bytes, size_t length)
{
    if (attach.ring == NULL)
        return;
    uint8_t record[RECORD_HEAD];
    record[0] = source == 0 ? RECORD_STDOUT : RECORD_STDERR;
    while (length > 0) {
        size_t part = length < PAYLOAD_OUT_MAX - RECORD_HEAD ? length : PAYLOAD_OUT_MAX - RECORD_HEAD;
        while (attach.head + RECORD_HEAD + part - attach.tail > RING_SIZE)
            attach.tail += record_size(attach.tail);
        store_u32(record + 1, (uint32_t)part);
        copy(attach.head, record, NULL, RECORD_HEAD);
        copy(attach.head + RECORD_HEAD, (uint8_t *)(uintptr_t)bytes, NULL, part);
        attach.head += RECORD_HEAD + part;
        bytes += part;
        length -= part;
    }
}

void attach_over(int status)
{
    attach.over = true;
    attach.status = status;
}

static void put_input(const uint8_t *bytes, size_t length)
{
    if (!outlet_put(&attach.input, bytes, length))
        stream_reset(attach.writer->stream);
}

static void end_input(void)
{
    if (!attach.tty) {
        outlet_end(&attach.input);
    } else if (attach.input.watch.fd >= 0) {
        uint8_t character = terminal_end_character(attach.input.watch.fd);
        attach.typed++;
        put_input(&character, 1);
    }
}

static void resize(const uint8_t size[4])
{
    attach.terminal.rows = load_u16(size);
    attach.terminal.cols = load_u16(size + 2);
    if (attach.tty)
        terminal_resize(attach.input.watch.fd, size);
}

static void on_record(void *owner, const struct record_part *part)
{
    struct onlooker *onlooker = owner;
    if (part->type == RECORD_RESIZE)
        resize(part->bytes);
    else if (part->type == RECORD_SIGNAL && attach.pid > 0 && attach.tty)
        terminal_signal(attach.input.watch.fd, attach.pid, part->bytes[0]);
    else if (part->type == RECORD_SIGNAL && attach.pid > 0)
        kill(-attach.pid, part->bytes[0]);
    else if (part->type != RECORD_STDIN)
        return;
    else if (onlooker != attach.writer)
        stream_consumed(onlooker->stream, part->length); /* it did not ask to write */
    else if (part->ends_input)
        end_input();
    else
        put_input(part->bytes, part->length);
}

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    struct onlooker *onlooker = stream->owner;
    size_t heads = 0;
    if (!record_feed(&onlooker->reader, bytes, length, &heads, on_record, onlooker))
        session_violate("record");
    else
        stream_consumed(stream, heads);
}

static void stop_writing(struct onlooker *onlooker)
{
    if (attach.writer == onlooker)
        attach.writer = NULL;
}

static void host_ended(struct stream *stream)
{
    struct onlooker *onlooker = stream->owner;
    onlooker->detached = true;
    stop_writing(onlooker);
    stream_end(stream);
}

static void closed(struct stream *stream, bool lost)
{
    struct onlooker *onlooker = stream->owner;
    (void)lost;
    stop_writing(onlooker);
    for (struct onlooker **at = &attach.onlookers; *at != NULL; at = &(*at)->next) {
        if (*at == onlooker) {
            *at = onlooker->next;
            break;
        }
    }
    free(onlooker);
    if (attach.onlookers != NULL || attach.with_stdin || attach.tty)
        return;
    free(attach.ring);
    attach.ring = NULL;
    attach.head = attach.tail = 0;
}

static size_t read_ring(struct onlooker *onlooker, uint8_t *to, size_t room)
{
    size_t length = 0;
    if (onlooker->position < attach.tail)
        onlooker->position = attach.tail;
    while (onlooker->position < attach.head) {
        size_t size = record_size(onlooker->position);
        if (size > room - length)
            break;
        copy(onlooker->position, NULL, to + length, size);
        onlooker->position += size;
        length += size;
    }
    return length;
}

static void stage_end(struct onlooker *onlooker)
{
    if (attach.status == -1)
        staged_end(&onlooker->staged, false, NEVER_RAN);
    else if (WIFSIGNALED(attach.status))
        staged_end(&onlooker->staged, true, WTERMSIG(attach.status));
    else
        staged_end(&onlooker->staged, false, WEXITSTATUS(attach.status));
    onlooker->end_staged = true;
    stream_end(onlooker->stream);
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    struct onlooker *onlooker = stream->owner;
    if (onlooker->staged.length > 0)
        return staged_take(&onlooker->staged, to, room);
    if (onlooker->detached || onlooker->end_staged)
        return 0;
    size_t length = read_ring(onlooker, to, room);
    if (length > 0 || !attach.over || onlooker->position < attach.head)
        return length;
    stage_end(onlooker);
    return staged_take(&onlooker->staged, to, room);
}

static const struct stream_kind ATTACH = {receive, host_ended, produce, closed};

static void answer(struct onlooker *onlooker)
{
    struct writer writer = staged_begin(&onlooker->staged);
    write_text(&writer, attach.tty ? "{\"ok\":{\"tty\":true,\"pid\":" : "{\"ok\":{\"tty\":false,\"pid\":");
    write_integer(&writer, attach.pid);
    write_text(&writer, "}}");
    staged_finish(&onlooker->staged, &writer);
}

void attach_open(struct stream *stream, const struct json *message)
{
    struct terminal wanted;
    char fault[FAULT_TEXT];
    uint32_t stdin_node = json_member(message, 0, "stdin"), tty = json_member(message, 0, "tty");
    uint32_t replay = json_member(message, 0, "replay");
    bool writes = stdin_node != 0 && json_type(message, stdin_node) == JSON_TRUE;
    bool sized = tty != 0 && json_type(message, tty) != JSON_NULL && json_type(message, tty) != JSON_FALSE;
    if (sized && !terminal_read(message, tty, &wanted, fault)) {
        stream_refuse(stream, "malformed", fault);
        return;
    }
    if (writes && !attach.with_stdin) {
        stream_refuse(stream, "not_permitted", "the workload has no stdin: its manifest does not ask for one");
        return;
    }
    if (writes && attach.writer != NULL) {
        stream_refuse(stream, "busy", "another stream writes to the workload's stdin");
        return;
    }
    struct onlooker *onlooker = calloc(1, sizeof *onlooker);
    if (attach.ring == NULL)
        attach.ring = malloc(RING_SIZE);
    if (onlooker == NULL || attach.ring == NULL) {
        free(onlooker);
        stream_refuse(stream, "busy", "the guest has no memory for it");
        return;
    }
    onlooker->stream = stream;
    onlooker->position = replay != 0 && json_type(message, replay) == JSON_TRUE ? attach.tail : attach.head;
    onlooker->reader.sizes = true;
    onlooker->reader.reopens = attach.tty;
    onlooker->next = attach.onlookers;
    attach.onlookers = onlooker;
    if (writes) {
        outlet_drop(&attach.input); /* what the last writer left behind is not this one's */
        attach.writer = onlooker;
    }
    stream->kind = &ATTACH;
    stream->owner = onlooker;
    if (sized)
        resize((uint8_t[4]){(uint8_t)(wanted.rows >> 8), (uint8_t)wanted.rows, (uint8_t)(wanted.cols >> 8), (uint8_t)wanted.cols});
    answer(onlooker);
}

bool attach_is_drained(void)
{
    for (const struct onlooker *onlooker = attach.onlookers; onlooker != NULL; onlooker = onlooker->next)
        if (!onlooker->detached && (!onlooker->end_staged || onlooker->staged.length > 0))
            return false;
    return true;
}
