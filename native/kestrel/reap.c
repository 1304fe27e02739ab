#include "reap.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "asking.h"
#include "exec.h"
#include "files.h"
#include "freeze.h"
#include "loop.h"
#include "shutdown.h"
#include "workload.h"

enum { GRACE_MS = 10000 };

static struct watch signals;

static void reap_children(void)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            if (!workload_reaped(pid, status) && !freeze_reaped(pid, status) && !asking_reaped(pid, status) && !files_reaped(pid))
                exec_reaped(pid, status);
        } else if (pid == 0 || errno != EINTR) {
            if (pid < 0)
                shutdown_no_children();
            return;
        }
    }
}

static void on_signal(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;
    (void)events;
    while (read(watch->fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo != SIGCHLD)
            shutdown_begin(STOP_REQUESTED, GRACE_MS);
    reap_children();
}

bool reap_open(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT); /* ctrl-alt-del */
    sigaddset(&wanted, SIGPWR);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signals = (struct watch){.fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC), .ready = on_signal};
    return signals.fd >= 0 && loop_watch(&signals, EPOLLIN);
}
