#include "channel.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "loop.h"
#include "machine.h"
#include "stream.h"

enum {
    WRITE_MAX = 32768, /* a virtio port takes no more at once */
    WIRE_SIZE = 2 * (PAYLOAD_OUT_MAX + WRITE_MAX),
    READ_SIZE = 4096,
    READS_MAX = 64,  /* then others get their turn */
    WRITES_MAX = 16,
    HELD_MS = 100,
};

static struct {
    struct watch watch;
    struct timer held;
    struct preamble preamble;
    void (*hung_up)(void);
    bool readable;
    bool writable;
    bool met; /* a host has been here */
    size_t length; /* of what waits in the wire buffer */
} channel = {.watch.fd = -1};

static uint8_t wire[WIRE_SIZE];

static void begin_session(void *owner, const uint8_t nonce[NONCE_SIZE])
{
    (void)owner;
    machine_mix_nonce(nonce); /* first of all: this may be a clone that holds what its template's kernel would have said next */
    preamble_encode_echo(nonce, wire);
    channel.length = ECHO_SIZE;
    channel.met = true;
    channel.writable = true;
    session_begin(control_open_stream);
}

static void pass_bytes(void *owner, const uint8_t *bytes, size_t length)
{
    (void)owner;
    if (!session_is_open())
        return;
    session_receive(bytes, length);
    if (!session_is_open() && session_violation() != NULL)
        console_say("channel: session ended, the host broke the protocol (%s)", session_violation());
}

static const struct preamble_sink SINK = {begin_session, pass_bytes, NULL};

static void release_held(struct timer *timer)
{
    (void)timer;
    if (session_is_open())
        preamble_release(&channel.preamble, &SINK);
}

static void read_channel(void)
{
    uint8_t bytes[READ_SIZE];
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t length = read(channel.watch.fd, bytes, sizeof bytes);
        if (length > 0) {
            preamble_feed(&channel.preamble, bytes, (size_t)length, &SINK);
            continue;
        }
        if (length < 0 && errno == EINTR)
            continue;
        channel.readable = false;
        /* A port whose host is away reads as ended; only a socket has really ended. */
        if (channel.hung_up != NULL && (length == 0 || errno != EAGAIN)) {
            loop_close(&channel.watch);
            channel.preamble.held_length = 0;
            channel.length = 0;
            channel.hung_up();
            return;
        }
        break;
    }
    if (channel.preamble.held_length > 0 && session_is_open())
        timer_set(&channel.held, HELD_MS);
    else
        timer_stop(&channel.held);
}

static void on_ready(struct watch *watch, uint32_t events)
{
    (void)watch;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        channel.readable = true;
    if ((events & EPOLLOUT) != 0)
        channel.writable = true;
}

bool channel_open(int fd)
{
    channel.watch = (struct watch){.fd = fd, .ready = on_ready};
    channel.held.fire = release_held;
    channel.readable = true;
    channel.writable = true;
    channel.length = 0;
    return loop_watch(&channel.watch, EPOLLIN | EPOLLOUT | EPOLLET);
}

bool channel_replace(int fd)
{
    loop_close(&channel.watch);
    timer_stop(&channel.held);
    channel.preamble.held_length = 0;
    channel.met = false;
    return channel_open(fd);
}

void channel_on_hang_up(void (*hung_up)(void))
{
    channel.hung_up = hung_up;
}

void channel_set_secret(const uint8_t secret[SECRET_SIZE])
{
    memcpy(channel.preamble.secret, secret, SECRET_SIZE);
    if (!session_is_open())
        channel.preamble.held_length = 0;
}

static void write_wire(void)
{
    size_t size = channel.length < WRITE_MAX ? channel.length : WRITE_MAX;
    ssize_t written = write(channel.watch.fd, wire, size);
    if (written > 0) {
        channel.length -= (size_t)written;
        memmove(wire, wire + written, channel.length);
    } else if (written == 0 || errno != EINTR) {
        channel.writable = false;
    }
}

bool channel_flush(void)
{
    if (channel.watch.fd >= 0 && channel.readable)
        read_channel();
    for (int i = 0; i < WRITES_MAX && channel.watch.fd >= 0 && channel.met; i++) {
        channel.length += session_produce(wire + channel.length, sizeof wire - channel.length);
        if (channel.length == 0 || !channel.writable)
            break;
        write_wire();
    }
    return channel.watch.fd >= 0 && (channel.readable || (channel.length > 0 && channel.writable));
}

bool channel_is_drained(void)
{
    return channel.length == 0;
}

bool channel_is_attached(void)
{
    return channel.watch.fd >= 0 && session_is_open();
}
