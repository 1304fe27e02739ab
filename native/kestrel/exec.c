#include "exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "loop.h"
#include "program.h"
#include "record.h"
#include "staged.h"

enum { EXECS_MAX = STREAMS_MAX, HANG_UP_MS = 2000, DISCARDS_MAX = 64, INPUT_SIZE = WINDOW_MAX };

struct exec {
    bool used;
    struct stream *stream; /* NULL once it was lost */
    pid_t pid;             /* 0 once reaped */
    int status;
    bool started;
    bool failed;
    struct program_label label;
    struct watch report;
    struct watch input;
    struct watch output[2]; /* stdout, stderr */
    bool readable[2];
    size_t turn;
    bool writable;
    bool input_ended;
    bool end_staged;
    uint8_t *pending; /* ring of stdin that the program has not read */
    size_t pending_start;
    size_t pending_length;
    struct record_reader reader;
    struct timer hang_up;
    struct staged staged;
};

static struct exec execs[EXECS_MAX];

static void free_exec(struct exec *exec)
{
    loop_close(&exec->report);
    loop_close(&exec->input);
    loop_close(&exec->output[0]);
    loop_close(&exec->output[1]);
    timer_stop(&exec->hang_up);
    free(exec->pending);
    memset(exec, 0, sizeof *exec);
}

static void maybe_free(struct exec *exec)
{
    if (exec->stream == NULL && exec->pid == 0)
        free_exec(exec);
}

static void kill_late(struct timer *timer)
{
    struct exec *exec = timer->owner;
    if (exec->pid > 0)
        kill(-exec->pid, SIGKILL);
}

static void hang_up(struct exec *exec)
{
    if (exec->pid <= 0)
        return;
    kill(-exec->pid, SIGHUP);
    kill(-exec->pid, SIGCONT); /* a stopped program would not hear it */
    timer_set(&exec->hang_up, HANG_UP_MS);
}

static void write_input(struct exec *exec)
{
    while (exec->writable && exec->pending_length > 0) {
        size_t until_wrap = INPUT_SIZE - exec->pending_start;
        size_t size = exec->pending_length < until_wrap ? exec->pending_length : until_wrap;
        ssize_t written = write(exec->input.fd, exec->pending + exec->pending_start, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN) {
            exec->writable = false;
        } else if (written <= 0) {
            /* The program reads no more: what comes is thrown away, as a broken pipe would. */
            loop_close(&exec->input);
            exec->writable = false;
            if (exec->stream != NULL)
                stream_consumed(exec->stream, exec->pending_length);
            exec->pending_length = 0;
        } else {
            exec->pending_start = (exec->pending_start + (size_t)written) % INPUT_SIZE;
            exec->pending_length -= (size_t)written;
            if (exec->stream != NULL)
                stream_consumed(exec->stream, (size_t)written);
        }
    }
    if (exec->input_ended && exec->pending_length == 0)
        loop_close(&exec->input);
}

static void take_input(struct exec *exec, const uint8_t *bytes, size_t length)
{
    if (exec->input.fd < 0 || exec->pending == NULL) {
        stream_consumed(exec->stream, length);
        return;
    }
    /* The window is charged for every byte kept here, so it always fits. */
    for (size_t at = 0; at < length;) {
        size_t end = (exec->pending_start + exec->pending_length) % INPUT_SIZE;
        size_t part = length - at < INPUT_SIZE - end ? length - at : INPUT_SIZE - end;
        memcpy(exec->pending + end, bytes + at, part);
        exec->pending_length += part;
        at += part;
    }
    write_input(exec);
}

static void on_record(void *owner, const struct record_part *part)
{
    struct exec *exec = owner;
    if (part->type == RECORD_SIGNAL) {
        stream_consumed(exec->stream, part->length);
        if (exec->pid > 0 && exec->started)
            kill(-exec->pid, part->bytes[0]);
    } else if (part->ends_input) {
        exec->input_ended = true;
        write_input(exec);
    } else {
        take_input(exec, part->bytes, part->length);
    }
}

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    struct exec *exec = stream->owner;
    size_t heads = 0;
    bool good = record_feed(&exec->reader, bytes, length, &heads, on_record, exec);
    if (!good) {
        session_violate("record");
        return;
    }
    stream_consumed(stream, heads);
}

static void host_ended(struct stream *stream)
{
    struct exec *exec = stream->owner;
    exec->input_ended = true;
    write_input(exec);
}

/* Nobody reads it any more, but a program that tidies up after its SIGHUP should not stumble over a broken pipe.
   One that goes on and on does. */
static void discard_output(struct exec *exec)
{
    char bytes[4096];
    for (size_t which = 0; which < 2; which++) {
        for (int i = 0; exec->output[which].fd >= 0; i++) {
            ssize_t length = read(exec->output[which].fd, bytes, sizeof bytes);
            if (length < 0 && errno == EAGAIN)
                break;
            if (length == 0 || (length < 0 && errno != EINTR) || i == DISCARDS_MAX)
                loop_close(&exec->output[which]);
        }
    }
}

static void closed(struct stream *stream, bool lost)
{
    struct exec *exec = stream->owner;
    exec->stream = NULL;
    if (lost)
        hang_up(exec);
    loop_close(&exec->input);
    discard_output(exec);
    maybe_free(exec);
}

static size_t read_output(struct exec *exec, size_t which, uint8_t *to, size_t room)
{
    size_t size = room - RECORD_HEAD;
    for (;;) {
        ssize_t length = read(exec->output[which].fd, to + RECORD_HEAD, size);
        if (length > 0) {
            to[0] = which == 0 ? RECORD_STDOUT : RECORD_STDERR;
            store_u32(to + 1, (uint32_t)length);
            return RECORD_HEAD + (size_t)length;
        }
        if (length < 0 && errno == EINTR)
            continue;
        exec->readable[which] = false;
        if (length == 0 || errno != EAGAIN)
            loop_close(&exec->output[which]);
        return 0;
    }
}

static void stage_end(struct exec *exec)
{
    char text[48];
    struct writer writer = {.bytes = text, .capacity = sizeof text};
    bool signalled = WIFSIGNALED(exec->status);
    write_text(&writer, signalled ? "{\"signal\": " : "{\"code\": ");
    write_integer(&writer, signalled ? WTERMSIG(exec->status) : WEXITSTATUS(exec->status));
    write_text(&writer, "}");
    uint8_t *to = exec->staged.bytes + exec->staged.length;
    to[0] = RECORD_END;
    store_u32(to + 1, (uint32_t)writer.length);
    memcpy(to + RECORD_HEAD, text, writer.length);
    exec->staged.length += RECORD_HEAD + writer.length;
    exec->end_staged = true;
    stream_end(exec->stream);
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    struct exec *exec = stream->owner;
    if (exec->staged.length > 0)
        return staged_take(&exec->staged, to, room);
    if (!exec->started || exec->end_staged)
        return 0;
    for (int i = 0; i < 2 && room > RECORD_HEAD; i++) {
        size_t which = exec->turn++ % 2;
        if (exec->output[which].fd >= 0 && exec->readable[which]) {
            size_t length = read_output(exec, which, to, room);
            if (length > 0)
                return length;
        }
    }
    if (exec->pid != 0 || exec->readable[0] || exec->readable[1])
        return 0;
    stage_end(exec);
    return staged_take(&exec->staged, to, room);
}

static const struct stream_kind EXEC = {receive, host_ended, produce, closed};

static void on_output(struct watch *watch, uint32_t events)
{
    struct exec *exec = watch->owner;
    (void)events;
    if (exec->stream == NULL) {
        discard_output(exec);
        return;
    }
    exec->readable[watch == &exec->output[0] ? 0 : 1] = true;
}

static void on_input(struct watch *watch, uint32_t events)
{
    struct exec *exec = watch->owner;
    (void)events;
    exec->writable = true;
    write_input(exec);
}

static void on_report(struct watch *watch, uint32_t events)
{
    struct exec *exec = watch->owner;
    struct program_fault fault;
    (void)events;
    int outcome = program_outcome(watch->fd, &fault);
    if (outcome == 0)
        return;
    loop_close(watch);
    if (exec->stream == NULL)
        return;
    if (outcome < 0) {
        char text[256];
        const char *code = program_explain(&fault, &exec->label, text, sizeof text);
        exec->failed = true;
        staged_error(&exec->staged, code, text);
        stream_end(exec->stream);
        return;
    }
    struct writer writer = staged_begin(&exec->staged);
    write_text(&writer, "{\"ok\":{\"pid\":");
    write_integer(&writer, exec->pid != 0 ? exec->pid : 0);
    write_text(&writer, "}}");
    staged_finish(&exec->staged, &writer);
    exec->started = true;
}

static void watch_descriptor(struct exec *exec, struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t), uint32_t events)
{
    *watch = (struct watch){fd, ready, exec};
    if (fd >= 0)
        loop_watch(watch, events | EPOLLET);
}

static struct exec *find_place(void)
{
    for (size_t i = 0; i < EXECS_MAX; i++)
        if (!execs[i].used)
            return &execs[i];
    return NULL;
}

static void start(struct exec *exec, const struct command *command, const struct command *workload, bool with_stdin)
{
    struct program program;
    if (with_stdin)
        exec->pending = malloc(INPUT_SIZE);
    if ((with_stdin && exec->pending == NULL) || !program_start(command, workload, with_stdin, &program)) {
        staged_error(&exec->staged, "failed", strerror(errno));
        stream_end(exec->stream);
        return;
    }
    exec->pid = program.pid;
    watch_descriptor(exec, &exec->report, program.report_fd, on_report, EPOLLIN);
    watch_descriptor(exec, &exec->input, program.stdin_fd, on_input, EPOLLOUT);
    watch_descriptor(exec, &exec->output[0], program.stdout_fd, on_output, EPOLLIN);
    watch_descriptor(exec, &exec->output[1], program.stderr_fd, on_output, EPOLLIN);
    exec->hang_up = (struct timer){.fire = kill_late, .owner = exec};
}

void exec_open(struct stream *stream, const struct json *message, const struct command *workload)
{
    struct exec *exec = find_place();
    if (exec == NULL) { /* hung-up programs that have not ended hold the places */
        stream_refuse(stream, "busy", "too many programs are still ending");
        return;
    }
    static struct command command; /* points into the message, so it ends with this call */
    char fault[FAULT_TEXT];
    if (!config_read_command(message, 0, "", &command, fault)) {
        stream_refuse(stream, "malformed", fault);
        return;
    }
    exec->used = true;
    program_label(&command, workload, &exec->label);
    exec->stream = stream;
    exec->report.fd = exec->input.fd = exec->output[0].fd = exec->output[1].fd = -1;
    exec->status = 0;
    stream->kind = &EXEC;
    stream->owner = exec;
    uint32_t with_stdin = json_member(message, 0, "stdin");
    start(exec, &command, workload, with_stdin != 0 && json_type(message, with_stdin) == JSON_TRUE);
}

bool exec_reaped(pid_t pid, int status)
{
    for (size_t i = 0; i < EXECS_MAX; i++) {
        struct exec *exec = &execs[i];
        if (!exec->used || exec->pid != pid)
            continue;
        if (exec->report.fd >= 0)
            on_report(&exec->report, 0);
        exec->pid = 0;
        exec->status = status;
        timer_stop(&exec->hang_up);
        /* Whatever it wrote is in the pipes by now: look once more. */
        exec->readable[0] = exec->output[0].fd >= 0;
        exec->readable[1] = exec->output[1].fd >= 0;
        maybe_free(exec);
        return true;
    }
    return false;
}

void exec_signal_all(int number)
{
    for (size_t i = 0; i < EXECS_MAX; i++)
        if (execs[i].used && execs[i].pid > 0)
            kill(-execs[i].pid, number);
}
