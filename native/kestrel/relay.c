#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINGER_MS = 30000 };

static void finish(struct relay *relay)
{
    loop_close(&relay->input);
    outlet_close(&relay->outlet);
    timer_stop(&relay->linger);
    relay->gone(relay);
}

static void on_linger(struct timer *timer)
{
    finish(timer->owner);
}

static void on_passed(struct outlet *outlet, size_t length)
{
    struct relay *relay = outlet->owner;
    if (relay->stream != NULL)
        stream_consumed(relay->stream, length);
    else if (outlet->length == 0 && relay->linger.armed)
        timer_set(&relay->linger, 0); /* not from in here: the outlet is at work */
}

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    struct relay *relay = stream->owner;
    if (!outlet_put(&relay->outlet, bytes, length))
        stream_reset(stream);
}

static void host_ended(struct stream *stream)
{
    struct relay *relay = stream->owner;
    outlet_end(&relay->outlet);
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    struct relay *relay = stream->owner;
    if (relay->staged.length > 0)
        return staged_take(&relay->staged, to, room);
    while (relay->readable) {
        ssize_t length = read(relay->input.fd, to, room);
        if (length > 0)
            return (size_t)length;
        if (length < 0 && errno == EINTR)
            continue;
        relay->readable = false;
        if (length < 0 && errno == EAGAIN)
            break;
        relay->input_ended = true;
        loop_close(&relay->input);
        if (length == 0)
            stream_end(stream);
        else
            stream_reset(stream); /* the other side broke it off, and the host shall see that */
    }
    return 0;
}

static void break_off(int fd)
{
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

static void closed(struct stream *stream, bool lost)
{
    struct relay *relay = stream->owner;
    relay->stream = NULL;
    if (lost) {
        break_off(relay->input.fd);
        break_off(relay->outlet.watch.fd);
    }
    if (!lost && relay->begun && relay->outlet.length > 0 && relay->outlet.watch.fd >= 0) {
        timer_set(&relay->linger, LINGER_MS); /* the other side has not taken everything yet */
        return;
    }
    finish(relay);
}

static const struct stream_kind RELAY = {receive, host_ended, produce, closed};

static void on_input(struct watch *watch, uint32_t events)
{
    struct relay *relay = watch->owner;
    (void)events;
    relay->readable = true;
}

void relay_open(struct relay *relay, struct stream *stream)
{
    relay->stream = stream;
    relay->input.fd = -1;
    relay->outlet = (struct outlet){.watch.fd = -1, .held = true, .passed = on_passed, .owner = relay};
    relay->linger = (struct timer){.fire = on_linger, .owner = relay};
    stream->kind = &RELAY;
    stream->owner = relay;
}

void relay_begin(struct relay *relay, int fd, bool answer)
{
    int twin = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* epoll tells the two directions apart by their descriptors */
    relay->input = (struct watch){fd, on_input, relay};
    bool watched = twin >= 0 && loop_watch(&relay->input, EPOLLIN | EPOLLET);
    if (!watched || !outlet_open(&relay->outlet, twin)) {
        relay_refuse(relay, "busy", strerror(errno));
        loop_close(&relay->input);
        if (!watched && twin >= 0)
            close(twin);
        return;
    }
    relay->begun = true;
    relay->readable = true;
    if (!answer)
        return;
    struct writer writer = staged_begin(&relay->staged);
    write_text(&writer, "{\"ok\":{}}");
    staged_finish(&relay->staged, &writer);
}

void relay_refuse(struct relay *relay, const char *code, const char *text)
{
    outlet_close(&relay->outlet);
    staged_error(&relay->staged, code, text);
    stream_end(relay->stream);
}
