#include "exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "loop.h"
#include "outlet.h"
#include "program.h"
#include "record.h"
#include "staged.h"
#include "terminal.h"

/* Hung-up programs that have not ended hold places too. */
enum { EXECS_MAX = STREAMS_MAX, HANG_UP_MS = 2000, DISCARDS_MAX = 64 };

struct exec {
    struct exec *next;
    struct stream *stream; /* NULL once it was lost */
    pid_t pid;             /* 0 once reaped */
    int status;
    bool tty;
    size_t typed; /* characters in `input` that did not come from the host */
    bool started;
    bool end_staged;
    struct program_label label;
    struct watch report;
    struct outlet input;
    struct watch output[2]; /* stdout, stderr; a terminal's only one is the first */
    bool readable[2];
    size_t left[2]; /* what a pipe held when the program ended: more of it is somebody else's */
    size_t turn;
    struct record_reader reader;
    struct timer hang_up;
    struct staged staged;
};

static struct exec *execs;
static size_t exec_count;

static void free_exec(struct exec *exec)
{
    loop_close(&exec->report);
    outlet_close(&exec->input);
    loop_close(&exec->output[0]);
    loop_close(&exec->output[1]);
    timer_stop(&exec->hang_up);
    for (struct exec **at = &execs; *at != NULL; at = &(*at)->next) {
        if (*at == exec) {
            *at = exec->next;
            break;
        }
    }
    free(exec);
    exec_count--;
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
    if (exec->tty)
        terminal_signal(exec->output[0].fd, exec->pid, SIGHUP);
    kill(-exec->pid, SIGHUP);
    kill(-exec->pid, SIGCONT); /* a stopped program would not hear it */
    timer_set(&exec->hang_up, HANG_UP_MS);
}

static void on_passed(struct outlet *outlet, size_t length)
{
    struct exec *exec = outlet->owner;
    size_t own = length < exec->typed ? length : exec->typed;
    exec->typed -= own; /* which of them it was makes no difference in the sum */
    if (exec->stream != NULL)
        stream_consumed(exec->stream, length - own);
}

static void put_input(struct exec *exec, const uint8_t *bytes, size_t length)
{
    if (!outlet_put(&exec->input, bytes, length))
        stream_reset(exec->stream);
}

/* A terminal stays open: its end of file is a character that is typed, which the host's window is not charged for. */
static void end_input(struct exec *exec)
{
    if (!exec->tty) {
        outlet_end(&exec->input);
    } else if (exec->input.watch.fd >= 0) {
        uint8_t character = terminal_end_character(exec->input.watch.fd);
        exec->typed++;
        put_input(exec, &character, 1);
    }
}

static void on_record(void *owner, const struct record_part *part)
{
    struct exec *exec = owner;
    if (part->ends_input)
        end_input(exec);
    else if (part->type == RECORD_STDIN)
        put_input(exec, part->bytes, part->length);
    else if (part->type == RECORD_RESIZE)
        terminal_resize(exec->output[0].fd, part->bytes);
    else if (exec->pid > 0 && exec->started && exec->tty)
        terminal_signal(exec->output[0].fd, exec->pid, part->bytes[0]);
    else if (exec->pid > 0 && exec->started)
        kill(-exec->pid, part->bytes[0]);
}

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    struct exec *exec = stream->owner;
    size_t heads = 0;
    if (!record_feed(&exec->reader, bytes, length, &heads, on_record, exec))
        session_violate("record");
    else
        stream_consumed(stream, heads);
}

static void host_ended(struct stream *stream)
{
    struct exec *exec = stream->owner;
    if (!exec->reader.input_ended)
        end_input(exec);
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
    outlet_close(&exec->input);
    discard_output(exec);
    maybe_free(exec);
}

static size_t read_output(struct exec *exec, size_t which, uint8_t *to, size_t room)
{
    size_t size = room - RECORD_HEAD;
    bool counted = exec->pid == 0 && !exec->tty; /* a terminal hangs up on those who are left when its session's leader ends */
    if (counted && exec->left[which] < size)
        size = exec->left[which];
    while (size > 0) {
        ssize_t length = read(exec->output[which].fd, to + RECORD_HEAD, size);
        if (length > 0) {
            to[0] = which == 0 ? RECORD_STDOUT : RECORD_STDERR;
            store_u32(to + 1, (uint32_t)length);
            exec->left[which] -= counted ? (size_t)length : 0;
            return RECORD_HEAD + (size_t)length;
        }
        if (length < 0 && errno == EINTR)
            continue;
        exec->readable[which] = false;
        if (length == 0 || errno != EAGAIN)
            loop_close(&exec->output[which]);
        return 0;
    }
    exec->readable[which] = false;
    return 0;
}

static void stage_end(struct exec *exec)
{
    bool signalled = WIFSIGNALED(exec->status);
    staged_end(&exec->staged, signalled, signalled ? WTERMSIG(exec->status) : WEXITSTATUS(exec->status));
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
    size_t which = watch == &exec->output[0] ? 0 : 1;
    exec->readable[which] = exec->tty || exec->pid != 0 || exec->left[which] > 0;
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

static void watch_output(struct exec *exec, struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t))
{
    *watch = (struct watch){fd, ready, exec};
    if (fd >= 0)
        loop_watch(watch, EPOLLIN | EPOLLET);
}

static const char *name_error(int error)
{
    return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE || error == ENOSPC ? "busy" : "failed";
}

static void start(struct exec *exec, const struct command *command, const struct command *workload, bool with_stdin,
                  const struct terminal *terminal)
{
    struct program program;
    bool started = terminal != NULL ? program_start_on_terminal(command, workload, terminal, &program)
                                    : program_start(command, workload, with_stdin, &program);
    if (!started) {
        staged_error(&exec->staged, name_error(errno), strerror(errno));
        stream_end(exec->stream);
        return;
    }
    exec->pid = program.pid;
    exec->hang_up = (struct timer){.fire = kill_late, .owner = exec};
    if (!with_stdin && program.stdin_fd >= 0) {
        close(program.stdin_fd);
        program.stdin_fd = -1;
    }
    /* epoll takes as many as there may be; what it does not take is never heard of, and the host may hang up. */
    watch_output(exec, &exec->report, program.report_fd, on_report);
    watch_output(exec, &exec->output[0], program.stdout_fd, on_output);
    watch_output(exec, &exec->output[1], program.stderr_fd, on_output);
    if (program.stdin_fd >= 0)
        outlet_open(&exec->input, program.stdin_fd);
}

static bool is_true(const struct json *message, const char *member)
{
    uint32_t node = json_member(message, 0, member);
    return node != 0 && json_type(message, node) == JSON_TRUE;
}

void exec_open(struct stream *stream, const struct json *message, const struct command *workload)
{
    static struct command command; /* points into the message, so it ends with this call */
    char fault[FAULT_TEXT];
    struct terminal terminal;
    uint32_t tty = json_member(message, 0, "tty");
    if (tty != 0 && (json_type(message, tty) == JSON_NULL || json_type(message, tty) == JSON_FALSE))
        tty = 0;
    if (!config_read_command(message, 0, "", &command, fault) || (tty != 0 && !terminal_read(message, tty, &terminal, fault))) {
        stream_refuse(stream, "malformed", fault);
        return;
    }
    struct exec *exec = exec_count < EXECS_MAX ? calloc(1, sizeof *exec) : NULL;
    if (exec == NULL) {
        stream_refuse(stream, "busy", "too many programs are running or still ending");
        return;
    }
    exec_count++;
    exec->next = execs;
    execs = exec;
    program_label(&command, workload, &exec->label);
    exec->stream = stream;
    exec->tty = exec->reader.sizes = exec->reader.reopens = tty != 0;
    exec->report.fd = exec->output[0].fd = exec->output[1].fd = -1;
    exec->input = (struct outlet){.watch.fd = -1, .passed = on_passed, .owner = exec};
    stream->kind = &EXEC;
    stream->owner = exec;
    start(exec, &command, workload, is_true(message, "stdin"), tty != 0 ? &terminal : NULL);
}

bool exec_reaped(pid_t pid, int status)
{
    for (struct exec *exec = execs; exec != NULL; exec = exec->next) {
        if (exec->pid != pid)
            continue;
        if (exec->report.fd >= 0)
            on_report(&exec->report, 0);
        exec->pid = 0;
        exec->status = status;
        timer_stop(&exec->hang_up);
        /* Whatever it wrote is in the pipes by now: look once more. */
        for (size_t which = 0; which < 2; which++) {
            int held = 0;
            exec->readable[which] = exec->output[which].fd >= 0;
            if (exec->readable[which] && ioctl(exec->output[which].fd, FIONREAD, &held) == 0 && held > 0)
                exec->left[which] = (size_t)held;
        }
        maybe_free(exec);
        return true;
    }
    return false;
}

void exec_signal_all(int number)
{
    for (struct exec *exec = execs; exec != NULL; exec = exec->next)
        if (exec->pid > 0)
            kill(-exec->pid, number);
}
