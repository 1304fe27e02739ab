#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "control.h"
#include "health.h"
#include "hook.h"
#include "logring.h"
#include "loop.h"
#include "program.h"
#include "shutdown.h"

enum state { STATE_NONE, STATE_STARTING, STATE_RUNNING, STATE_BACKOFF, STATE_EXITED, STATE_FAILED, STATE_STOPPING };
enum { READ_SIZE = 16384, READS_MAX = 8, DRAIN_MAX = 256 };

static const char *const STATE_NAMES[] = {"", "starting", "running", "backoff", "exited", "failed", "stopping"};

static struct {
    const struct config *config;
    const char *name;
    enum state state;
    pid_t pid;
    bool stop_wanted;
    bool ended_once;
    bool exec_failed;
    bool condemned; /* kestrel itself ends it, and `message` says why */
    int status;
    uint32_t restarts;
    uint32_t row; /* restarts since a run that lasted */
    uint32_t backoff_ms;
    uint64_t started_ms;
    char message[256];
    char last[256]; /* what was said of its last end */
    struct watch report;
    struct watch output[2];
    struct timer backoff;
    struct timer mercy;
} workload = {.report.fd = -1, .output = {{.fd = -1}, {.fd = -1}}};

static struct log_line lines[2];

static void begin(void);

static void enter(enum state state)
{
    workload.state = state;
    control_workload_changed();
}

static void read_output(struct watch *watch, int reads)
{
    struct log_line *line = &lines[watch == &workload.output[0] ? 0 : 1];
    char bytes[READ_SIZE];
    for (int i = 0; i < reads; i++) {
        ssize_t length = read(watch->fd, bytes, sizeof bytes);
        if (length > 0) {
            log_line_feed(line, bytes, (size_t)length);
            attach_output((size_t)(line - lines), bytes, (size_t)length);
        } else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            log_line_close(line);
            loop_close(watch);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

static void on_output(struct watch *watch, uint32_t events)
{
    (void)events;
    read_output(watch, READS_MAX);
}

static void finish_output(void)
{
    for (int i = 0; i < 2; i++) {
        if (workload.output[i].fd >= 0)
            read_output(&workload.output[i], DRAIN_MAX); /* bounded: something that escaped may still write */
        log_line_close(&lines[i]);
        loop_close(&workload.output[i]);
    }
}

static void end_for_good(enum state state, enum stop_reason reason)
{
    attach_over(workload.ended_once ? workload.status : -1);
    enter(state);
    shutdown_begin(reason, 0);
}

static void settle(bool failure)
{
    const struct restart *restart = &workload.config->restart;
    if (workload.stop_wanted) {
        attach_over(workload.ended_once ? workload.status : -1);
        enter(STATE_EXITED);
        shutdown_workload_ended();
        return;
    }
    if (restart->policy == RESTART_NEVER || (restart->policy == RESTART_ON_FAILURE && !failure)) {
        end_for_good(workload.exec_failed ? STATE_FAILED : STATE_EXITED, workload.exec_failed ? STOP_FAILED : STOP_WORKLOAD_ENDED);
        return;
    }
    if (!workload.exec_failed && uptime_ms() - workload.started_ms >= restart->reset_after_ms)
        workload.backoff_ms = workload.row = 0;
    if (restart->max_restarts > 0 && workload.row >= restart->max_restarts) {
        size_t length = strlen(workload.message);
        snprintf(workload.message + length, sizeof workload.message - length, "; it was restarted %u times already", workload.row);
        logring_say("%s: %s", workload.name, workload.message);
        end_for_good(STATE_FAILED, STOP_RESTART_LIMIT);
        return;
    }
    workload.row++;
    uint32_t doubled = workload.backoff_ms > restart->max_backoff_ms / 2 ? restart->max_backoff_ms : 2 * workload.backoff_ms;
    workload.backoff_ms = workload.backoff_ms == 0 ? restart->initial_backoff_ms : doubled;
    if (workload.backoff_ms > restart->max_backoff_ms)
        workload.backoff_ms = restart->max_backoff_ms;
    logring_say("%s: %s; starting again in %u ms", workload.name, workload.message, workload.backoff_ms);
    timer_set(&workload.backoff, workload.backoff_ms);
    enter(STATE_BACKOFF);
}

static void on_report(struct watch *watch, uint32_t events)
{
    struct program_fault fault;
    (void)events;
    int outcome = program_outcome(watch->fd, &fault);
    if (outcome == 0)
        return;
    loop_close(watch);
    if (outcome < 0) {
        workload.exec_failed = true;
        struct program_label label;
        program_label(&workload.config->command, NULL, &label);
        program_explain(&fault, &label, workload.message, sizeof workload.message);
        return; /* its end follows */
    }
    control_mark_started();
    if (workload.state == STATE_STARTING) {
        enter(STATE_RUNNING);
        health_begin(workload.config);
    }
}

static void watch_descriptor(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t))
{
    *watch = (struct watch){.fd = fd, .ready = ready};
    loop_watch(watch, EPOLLIN);
}

static void begin(void)
{
    struct program program;
    workload.exec_failed = false;
    workload.condemned = false;
    workload.message[0] = '\0';
    workload.started_ms = uptime_ms();
    enter(STATE_STARTING);
    if (!attach_start(workload.config, &program)) {
        snprintf(workload.message, sizeof workload.message, "cannot start %s: %s", workload.config->command.argv[0], strerror(errno));
        workload.exec_failed = true;
        settle(true);
        return;
    }
    workload.pid = program.pid;
    watch_descriptor(&workload.report, program.report_fd, on_report);
    watch_descriptor(&workload.output[0], program.stdout_fd, on_output);
    if (program.stderr_fd >= 0) /* a terminal's output is one */
        watch_descriptor(&workload.output[1], program.stderr_fd, on_output);
    lines[0].terminal = workload.config->tty;
}

static void begin_again(struct timer *timer)
{
    (void)timer;
    workload.restarts++;
    begin();
}

void workload_start(const struct config *config)
{
    workload.config = config;
    workload.name = config->workload_name;
    workload.backoff.fire = begin_again;
    lines[0].source = LOG_STDOUT;
    lines[1].source = LOG_STDERR;
    begin();
}

void workload_renew(const struct config *config)
{
    if (strcmp(workload.name, config->workload_name) != 0) {
        control_workload_changed();
        control_health_changed();
    }
    workload.config = config;
    workload.name = config->workload_name;
    health_renew(config);
}

void workload_fail(const char *name, const char *message)
{
    workload.name = name;
    snprintf(workload.message, sizeof workload.message, "%s", message);
    logring_say("%s: %s", name, message);
    end_for_good(STATE_FAILED, STOP_FAILED);
}

static void describe_end(int status)
{
    if (WIFSIGNALED(status))
        snprintf(workload.message, sizeof workload.message, "ended by signal %d", WTERMSIG(status));
    else
        snprintf(workload.message, sizeof workload.message, "exited with code %d", WEXITSTATUS(status));
}

bool workload_reaped(pid_t pid, int status)
{
    if (workload.pid == 0 || pid != workload.pid)
        return false;
    if (workload.report.fd >= 0)
        on_report(&workload.report, 0);
    kill(-pid, SIGKILL); /* what it left behind in its group */
    workload.pid = 0;
    workload.status = status;
    finish_output();
    attach_ended();
    health_end();
    timer_stop(&workload.mercy);
    if (!workload.exec_failed) {
        workload.ended_once = true;
        if (!workload.condemned) /* why it had to end says more than how it did */
            describe_end(status);
    }
    snprintf(workload.last, sizeof workload.last, "%s", workload.message);
    settle(workload.exec_failed || workload.condemned || !WIFEXITED(status) || WEXITSTATUS(status) != 0);
    return true;
}

bool workload_is_running(void)
{
    return workload.pid > 0;
}

bool workload_has_ended(int *status)
{
    *status = workload.status;
    return workload.ended_once;
}

static void kill_group(struct timer *timer)
{
    (void)timer;
    workload_signal_group(SIGKILL);
}

void workload_condemn(const char *why)
{
    if (workload.pid == 0 || workload.stop_wanted)
        return;
    workload.condemned = true;
    snprintf(workload.message, sizeof workload.message, "%s", why);
    logring_say("%s: %s", workload.name, why);
    control_workload_changed();
    workload.mercy.fire = kill_group;
    timer_set(&workload.mercy, workload.config->stop_grace_ms);
    kill(workload.pid, workload.config->stop_signal);
}

static void send_stop_signal(bool well, const char *message)
{
    if (!well)
        logring_say("%s: its pre_stop hook failed: %s", workload.name, message);
    if (workload.pid > 0)
        kill(workload.pid, workload.config->stop_signal);
}

bool workload_stop(uint32_t grace_ms)
{
    bool serves = workload.state == STATE_RUNNING && !workload.condemned;
    workload.stop_wanted = true;
    timer_stop(&workload.backoff);
    health_end();
    if (workload.pid == 0) {
        if (workload.state == STATE_BACKOFF) {
            attach_over(workload.ended_once ? workload.status : -1);
            enter(STATE_EXITED);
        }
        return false;
    }
    enter(STATE_STOPPING);
    const struct question *hook = &workload.config->pre_stop;
    /* A tenth of the grace is the workload's own, however long the hook takes. */
    uint32_t most_ms = grace_ms - grace_ms / 10;
    if (serves && hook->kind != QUESTION_NONE && most_ms > 0)
        hook_run(hook, &workload.config->command, hook->timeout_ms < most_ms ? hook->timeout_ms : most_ms, false, send_stop_signal);
    else
        send_stop_signal(true, "");
    return true;
}

void workload_signal_group(int number)
{
    if (workload.pid > 0)
        kill(-workload.pid, number);
}

bool workload_describe(struct writer *writer)
{
    if (workload.state == STATE_NONE)
        return false;
    write_text(writer, "\"workload\":");
    write_quoted(writer, workload.name);
    write_text(writer, ",\"state\":");
    write_quoted(writer, STATE_NAMES[workload.state]);
    write_text(writer, ",\"pid\":");
    write_integer(writer, workload.pid);
    write_text(writer, ",\"restarts\":");
    write_integer(writer, workload.restarts);
    if (workload.ended_once) {
        bool signalled = WIFSIGNALED(workload.status);
        write_text(writer, signalled ? ",\"exit\":{\"signal\":" : ",\"exit\":{\"code\":");
        write_integer(writer, signalled ? WTERMSIG(workload.status) : WEXITSTATUS(workload.status));
        write_text(writer, "}");
    }
    if (workload.last[0] != '\0') {
        write_text(writer, ",\"last_end\":");
        write_quoted(writer, workload.last);
    }
    write_text(writer, ",\"message\":");
    write_quoted(writer, workload.message);
    if (workload.state == STATE_BACKOFF) {
        write_text(writer, ",\"next_start_ms\":");
        write_integer(writer, workload.backoff_ms);
    }
    return true;
}
