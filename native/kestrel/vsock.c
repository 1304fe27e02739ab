#include "vsock.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "channel.h"
#include "console.h"
#include "loop.h"
#include "stream.h"

enum { ACCEPTS_MAX = 16, FIRST_GUEST_CID = 3 };

static struct watch listener = {.fd = -1};
static bool (*let_in)(int fd);

bool vsock_is_there(void)
{
    unsigned int cid = VMADDR_CID_ANY;
    int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool known = ioctl(fd, (int)IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) == 0;
    close(fd);
    return known && cid >= FIRST_GUEST_CID && cid != VMADDR_CID_ANY;
}

int vsock_listen(void)
{
    struct sockaddr_vm own = {.svm_family = AF_VSOCK, .svm_port = VSOCK_PORT, .svm_cid = VMADDR_CID_ANY};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&own, sizeof own) != 0 || listen(fd, ACCEPTS_MAX) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

bool vsock_is_host(int fd)
{
    struct sockaddr_vm other = {0};
    socklen_t size = sizeof other;
    return getpeername(fd, (struct sockaddr *)&other, &size) == 0 && size >= sizeof other && other.svm_family == AF_VSOCK &&
           other.svm_cid == VMADDR_CID_HOST;
}

static void on_listener(struct watch *watch, uint32_t events)
{
    (void)events;
    for (int i = 0; i < ACCEPTS_MAX; i++) { /* the loop comes back for more */
        int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (!let_in(fd)) {
            console_say("channel: turned away a connection that is not the host's");
            close(fd);
            continue;
        }
        session_end();
        channel_replace(fd);
    }
}

/* Here the end of a connection is seen, and nothing of its session can come any more. */
static void on_hang_up(void)
{
    session_end();
}

bool vsock_serve(int listener_fd, bool (*is_let_in)(int fd))
{
    let_in = is_let_in;
    channel_on_hang_up(on_hang_up);
    listener = (struct watch){.fd = listener_fd, .ready = on_listener};
    return loop_watch(&listener, EPOLLIN);
}
