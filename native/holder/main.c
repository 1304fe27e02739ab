/* The holder outlives volantd: it starts one VM process without privileges, is its parent, keeps its console log and its
 * exit status, and ends when it does. Everything it needs was opened by volantd and is inherited. */
#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_MAX (64L * 1024)

static struct console console; /* half a megabyte of buffers, too much for a stack */

static unsigned long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000000ULL + (unsigned long long)now.tv_nsec;
}

/* `text` without what would break a JSON string. */
static void clean(char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20) *text = ' ';
    }
}

static void record_failure(int dir_fd, const char *why) {
    char text[512];
    char cleaned[256];
    snprintf(cleaned, sizeof cleaned, "%s", why);
    clean(cleaned);
    snprintf(text, sizeof text, "{\"error\": \"%s\", \"at_unix_ns\": %llu}\n", cleaned, now_ns());
    record_write(dir_fd, "exit.json", text);
}

static bool record_process(int dir_fd, pid_t pid) {
    char boot_id[64];
    char text[512];
    unsigned long long started = record_start_time(pid);
    if (started == 0 || !record_boot_id(boot_id, sizeof boot_id)) return false;
    snprintf(text, sizeof text,
             "{\"pid\": %d, \"start_time\": %llu, \"holder_pid\": %d, \"holder_start_time\": %llu, \"boot_id\": \"%s\"}\n", (int)pid,
             started, (int)getpid(), record_start_time(getpid()), boot_id);
    return record_write(dir_fd, "process.json", text);
}

static void record_end(int dir_fd, int status) {
    char text[128];
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "{\"signal\": %d, \"at_unix_ns\": %llu}\n", WTERMSIG(status), now_ns());
    } else {
        snprintf(text, sizeof text, "{\"code\": %d, \"at_unix_ns\": %llu}\n", WEXITSTATUS(status), now_ns());
    }
    record_write(dir_fd, "exit.json", text);
}

/* Closes everything but what this process itself works with. What the VM process inherited must be its alone: a tap
 * or a disk is to go when it goes. */
static bool keep_only(const int *own, size_t count) {
    unsigned int from = 3;
    for (;;) {
        int next = -1;
        for (size_t i = 0; i < count; i++) {
            if (own[i] >= (int)from && (next < 0 || own[i] < next)) next = own[i];
        }
        unsigned int last = next < 0 ? ~0U : (unsigned int)next - 1;
        if (last >= from && syscall(SYS_close_range, from, last, 0U) < 0) return false;
        if (next < 0) return true;
        from = (unsigned int)next + 1;
    }
}

static pid_t start(const struct options *options, int *output, int *failure) {
    int output_pipe[2];
    int failure_pipe[2];
    if (pipe2(output_pipe, O_CLOEXEC) < 0 || pipe2(failure_pipe, O_CLOEXEC) < 0) return -1;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        const char *step = "";
        char why[256];
        jail_enter(options, output_pipe[1], parent, &step);
        int length = snprintf(why, sizeof why, "%s: %s", step, strerror(errno));
        ssize_t told = write(failure_pipe[1], why, (size_t)length);
        _exit(told > 0 ? 127 : 126);
    }
    close(output_pipe[1]);
    close(failure_pipe[1]);
    *output = output_pipe[0];
    *failure = failure_pipe[0];
    return pid;
}

static void take_output(int *output, struct log_file *log) {
    char bytes[4096];
    ssize_t count = read(*output, bytes, sizeof bytes);
    if (count > 0) {
        log_write(log, bytes, (size_t)count);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(*output);
        *output = -1;
    }
}

/* Serves the console and the output until the child has ended; returns its wait status. */
static int serve(pid_t child, int signals, int output, struct log_file *log) {
    for (;;) {
        struct pollfd polled[4 + MAX_CLIENTS];
        size_t clients = console.client_count;
        polled[0] = (struct pollfd){.fd = signals, .events = POLLIN};
        polled[1] = (struct pollfd){.fd = output, .events = POLLIN};
        polled[2] = (struct pollfd){.fd = console.source, .events = (short)(POLLIN | (console.typed > 0 ? POLLOUT : 0))};
        polled[3] = (struct pollfd){.fd = console.listener, .events = POLLIN};
        for (size_t i = 0; i < clients; i++) {
            bool listens = i > 0 || console.typed < sizeof console.typing;
            short events = (short)((listens ? POLLIN : 0) | (console.clients[i].waiting > 0 ? POLLOUT : 0));
            polled[4 + i] = (struct pollfd){.fd = console.clients[i].fd, .events = events};
        }
        if (poll(polled, 4 + clients, -1) < 0 && errno != EINTR) return 0;
        /* Clients go last to first: dropping one moves only those behind it. */
        for (size_t i = clients; i-- > 0;) {
            if (polled[4 + i].revents != 0) console_take_client(&console, i, polled[4 + i].revents);
        }
        if ((polled[3].revents & POLLIN) != 0) console_take_listener(&console);
        if ((polled[2].revents & POLLOUT) != 0) console_flush_typing(&console);
        if ((polled[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) console_take_source(&console);
        if (polled[1].revents != 0) take_output(&output, log);
        if ((polled[0].revents & POLLIN) != 0) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof info) == (ssize_t)sizeof info && info.ssi_signo == SIGTERM) kill(child, SIGKILL);
        }
        int status = 0;
        if (waitpid(child, &status, WNOHANG) == child) {
            for (int i = 0; i < 64 && output >= 0; i++) take_output(&output, log);
            for (int i = 0; i < 64 && console.source >= 0; i++) console_take_source(&console);
            return status;
        }
    }
}

int main(int argc, char **argv) {
    struct options options;
    if (!options_read(&options, argc, argv)) return 2;
    setsid();
    prctl(PR_SET_NAME, "volant-holder", 0, 0, 0);

    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGTERM);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);

    int output = -1;
    int failure = -1;
    pid_t child = signals < 0 ? -1 : start(&options, &output, &failure);
    if (child < 0) {
        record_failure(options.dir_fd, strerror(errno));
        return 1;
    }
    int own[] = {options.dir_fd, options.lock_fd, options.console_fd, options.console_listen_fd, signals, output, failure};
    if (!keep_only(own, sizeof own / sizeof own[0])) {
        record_failure(options.dir_fd, "the holder cannot close what it inherited");
        kill(child, SIGKILL);
        return 1;
    }

    char why[256];
    ssize_t told = read(failure, why, sizeof why - 1);
    close(failure);
    if (told > 0) {
        why[told] = '\0';
        waitpid(child, NULL, 0);
        record_failure(options.dir_fd, why);
        return 1;
    }
    fcntl(output, F_SETFL, O_NONBLOCK);
    struct log_file log;
    log_open(&log, options.dir_fd, "qemu.log", "qemu.log.1", OUTPUT_MAX);
    console_open(&console, &options);
    if (!record_process(options.dir_fd, child) || !jail_drop_capabilities()) {
        /* A VM that cannot be found again, or a parent that could not be disarmed, must not run. */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        record_failure(options.dir_fd, "the holder could not write its record or drop its privileges");
        return 1;
    }
    int status = serve(child, signals, output, &log);
    record_end(options.dir_fd, status);
    return 0;
}
