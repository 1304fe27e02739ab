#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "console.h"
#include "descriptors.h"
#include "loop.h"
#include "reap.h"
#include "timeline.h"
#include "vsock.h"

/* kestrel-test: the agent without the guest. See native/README.md. */

static struct watch listener = {.fd = -1};
static bool connected;

static void accept_host(void)
{
    int fd = connected ? -1 : accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    connected = channel_open(fd);
    timeline_mark(MILESTONE_CHANNEL);
}

static void on_listener(struct watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    accept_host();
}

static void on_hang_up(void)
{
    connected = false;
    if (listener.fd < 0)
        exit(0);
    accept_host(); /* the next one waits already, as with QEMU's port */
}

static bool anybody(int fd)
{
    (void)fd;
    return true;
}

static int usage(void)
{
    fputs("usage: kestrel-test --serve-fd N | --listen-fd N | --replace-fd N\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return usage();
    char *end;
    long fd = strtol(argv[2], &end, 10);
    if (*end != '\0' || fd < 0 || fd > 65535 || fcntl((int)fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        return usage();
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    console_open(STDERR_FILENO);
    descriptors_raise();
    loop_open();
    timeline_mark(MILESTONE_INIT);
    if (!reap_open())
        return 1;
    channel_on_hang_up(on_hang_up);
    if (strcmp(argv[1], "--serve-fd") == 0) {
        connected = channel_open((int)fd);
        timeline_mark(MILESTONE_CHANNEL);
    } else if (strcmp(argv[1], "--listen-fd") == 0) {
        listener = (struct watch){.fd = (int)fd, .ready = on_listener};
        if (!loop_watch(&listener, EPOLLIN | EPOLLET))
            return 1;
    } else if (strcmp(argv[1], "--replace-fd") == 0) {
        if (!vsock_serve((int)fd, anybody))
            return 1;
    } else {
        return usage();
    }
    for (;;)
        loop_step(channel_flush() ? 0 : -1);
}
