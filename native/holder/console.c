#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void console_open(struct console *console, const struct options *options) {
    console->source = options->console_fd;
    console->listener = options->console_listen_fd;
    console->client_count = 0;
    console->typed = 0;
    set_nonblocking(console->source);
    set_nonblocking(console->listener);
    log_open(&console->log, options->dir_fd, "console.log", "console.log.1", options->log_max);
}

static void drop_client(struct console *console, size_t index) {
    close(console->clients[index].fd);
    console->client_count -= 1;
    /* Order is kept: the one that came first is the one that may write. */
    for (size_t i = index; i < console->client_count; i++) console->clients[i] = console->clients[i + 1];
    if (index == 0) console->typed = 0;
}

/* Sends what waits; returns false when the client is gone. */
static bool flush_client(struct client *client) {
    while (client->waiting > 0) {
        ssize_t sent = send(client->fd, client->buffer, client->waiting, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN || errno == EINTR;
        client->waiting -= (size_t)sent;
        memmove(client->buffer, client->buffer + sent, client->waiting);
    }
    return true;
}

static void give_clients(struct console *console, const char *bytes, size_t count) {
    for (size_t i = console->client_count; i-- > 0;) {
        struct client *client = &console->clients[i];
        size_t room = sizeof client->buffer - client->waiting;
        size_t part = count < room ? count : room; /* a reader that is too slow loses output; the guest never waits */
        memcpy(client->buffer + client->waiting, bytes, part);
        client->waiting += part;
        if (!flush_client(client)) drop_client(console, i);
    }
}

void console_take_source(struct console *console) {
    char bytes[16384];
    ssize_t count = read(console->source, bytes, sizeof bytes);
    if (count > 0) {
        log_write(&console->log, bytes, (size_t)count);
        give_clients(console, bytes, (size_t)count);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(console->source);
        console->source = -1;
    }
}

void console_take_listener(struct console *console) {
    int fd = accept4(console->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    if (console->client_count == MAX_CLIENTS) {
        close(fd);
        return;
    }
    struct client *client = &console->clients[console->client_count++];
    client->fd = fd;
    client->waiting = 0;
}

void console_flush_typing(struct console *console) {
    if (console->typed == 0 || console->source < 0) return;
    ssize_t sent = send(console->source, console->typing, console->typed, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return;
    console->typed -= (size_t)sent;
    memmove(console->typing, console->typing + sent, console->typed);
}

void console_take_client(struct console *console, size_t index, short events) {
    struct client *client = &console->clients[index];
    if ((events & POLLOUT) != 0 && !flush_client(client)) {
        drop_client(console, index);
        return;
    }
    if ((events & (POLLIN | POLLHUP | POLLERR)) == 0) return;
    char passed_over[1024];
    bool may_write = index == 0;
    char *into = may_write ? console->typing + console->typed : passed_over;
    size_t room = may_write ? sizeof console->typing - console->typed : sizeof passed_over;
    if (room == 0) return;
    ssize_t count = recv(client->fd, into, room, MSG_DONTWAIT);
    if (count > 0) {
        if (may_write) {
            console->typed += (size_t)count;
            console_flush_typing(console);
        }
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop_client(console, index);
    }
}
