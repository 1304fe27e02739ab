#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "account.h"
#include "console.h"
#include "jail.h"
#include "logfile.h"
#include "options.h"

/* The parent of one VM process. It outlives volantd, keeps the console, and says how the process ended. */

enum { OUTPUT_LOG_MAX = 65536, OUTPUT_READ = 4096, OUTPUT_DRAIN_READS = 64 };
enum { SIGNALS, OUTPUT, REPORT, WATCHED };

static struct options options;
static struct pollfd watched[WATCHED];
static struct logfile output_log;
static pid_t child;
static char start_error[256];

static int open_signals(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void close_on_exec(void)
{
    int mine[] = {options.dir_fd, options.lock_fd, options.console_fd, options.listen_fd};
    for (size_t i = 0; i < sizeof mine / sizeof mine[0]; i++)
        fcntl(mine[i], F_SETFD, FD_CLOEXEC);
}

/* Whatever the holder was given and does not use would otherwise live as long as the VM. */
static void leave_inheritance(void)
{
    for (size_t i = 0; i < options.keep_count; i++)
        close(options.keep[i]);
    if (options.stdin_fd >= 0)
        close(options.stdin_fd);
    if (options.stdout_fd >= 0)
        close(options.stdout_fd);
    for (size_t i = 0; i < options.cgroup_count; i++)
        close(options.cgroups[i]);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        dup2(null_fd, fd);
    if (null_fd > 2)
        close(null_fd);
    if (chdir("/") != 0)
        return;
}

/* As fork(2), into the control group of version 2 that there is; -1 where there is none, or the kernel cannot. */
static pid_t fork_into_cgroup(void)
{
    struct clone_args how = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
    for (size_t i = 0; i < options.cgroup_count; i++) {
        if (options_is_directory(options.cgroups[i])) {
            how.cgroup = (unsigned)options.cgroups[i];
            return (pid_t)syscall(__NR_clone3, &how, sizeof how);
        }
    }
    return -1;
}

static bool start_child(void)
{
    int output[2], report[2];
    if (pipe2(output, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0)
        return false;
    /* Of the child, not of the holder: it will be the first process there, and see no other. */
    if (unshare(CLONE_NEWPID) != 0)
        return false;
    bool is_born_there = true;
    child = fork_into_cgroup();
    if (child < 0) {
        is_born_there = false;
        child = fork();
    }
    if (child == 0)
        jail_enter(&options, output[1], report[1], is_born_there);
    close(output[1]);
    close(report[1]);
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    fcntl(report[0], F_SETFL, O_NONBLOCK);
    watched[OUTPUT] = (struct pollfd){.fd = output[0], .events = POLLIN};
    watched[REPORT] = (struct pollfd){.fd = report[0], .events = POLLIN};
    return child > 0;
}

static void take_output(int reads)
{
    char bytes[OUTPUT_READ];
    for (int i = 0; i < reads && watched[OUTPUT].fd >= 0; i++) {
        ssize_t length = read(watched[OUTPUT].fd, bytes, sizeof bytes);
        if (length > 0) {
            logfile_write(&output_log, bytes, (size_t)length);
        } else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            close(watched[OUTPUT].fd);
            watched[OUTPUT].fd = -1;
        } else {
            return;
        }
    }
}

/* The pipe ends empty when the program runs. */
static void take_report(void)
{
    struct jail_fault fault;
    ssize_t length = read(watched[REPORT].fd, &fault, sizeof fault);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    close(watched[REPORT].fd);
    watched[REPORT].fd = -1;
    if (length == (ssize_t)sizeof fault) {
        fault.what[sizeof fault.what - 1] = '\0';
        snprintf(start_error, sizeof start_error, "%s: %s", fault.what, strerror(fault.error));
    } else {
        account_process(options.dir_fd, child);
    }
}

static void take_signals(void)
{
    struct signalfd_siginfo info;
    while (read(watched[SIGNALS].fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM)
            kill(child, SIGKILL);
}

static void hold(void)
{
    int status = 0;
    while (waitpid(child, &status, WNOHANG) != child) {
        console_wait(watched, WATCHED);
        if (watched[REPORT].fd >= 0 && watched[REPORT].revents != 0)
            take_report();
        if (watched[OUTPUT].fd >= 0 && watched[OUTPUT].revents != 0)
            take_output(1);
        if (watched[SIGNALS].revents != 0)
            take_signals();
    }
    if (watched[REPORT].fd >= 0)
        take_report();
    take_output(OUTPUT_DRAIN_READS);
    console_drain();
    account_exit(options.dir_fd, status, start_error[0] != '\0' ? start_error : NULL);
}

int main(int argc, char **argv)
{
    if (!options_read(argc, argv, &options))
        return 2;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NAME, "volant-holder");
    setsid();
    close_on_exec();
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    watched[SIGNALS] = (struct pollfd){.fd = open_signals(), .events = POLLIN};
    account_clear(options.dir_fd);
    logfile_open(&output_log, options.dir_fd, "qemu.log", OUTPUT_LOG_MAX);
    console_open(options.dir_fd, options.console_fd, options.listen_fd, options.log_max);
    if (watched[SIGNALS].fd < 0 || !start_child()) {
        account_exit(options.dir_fd, 0, strerror(errno));
        return 1;
    }
    leave_inheritance();
    jail_drop_own_rights();
    hold();
    return 0;
}
