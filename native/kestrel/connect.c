#include "connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "place.h"
#include "relay.h"

/* More than there are streams: some outlive theirs until what they hold is written. */
enum { CONNECTIONS_MAX = STREAMS_MAX + STREAMS_MAX / 2, CONNECT_LIMIT_MS = 10000 };

struct connection {
    struct relay relay;
    struct watch socket; /* while it is being made */
    struct timer limit;
};

struct target {
    socklen_t length;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

static size_t connection_count;

static void gone(struct relay *relay)
{
    struct connection *connection = (struct connection *)relay; /* its first member */
    loop_close(&connection->socket);
    timer_stop(&connection->limit);
    free(connection);
    connection_count--;
}

static const char *name_error(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
        return "refused";
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EAGAIN:
        return "busy";
    default:
        return "unreachable";
    }
}

static void give_up(struct connection *connection, int error)
{
    timer_stop(&connection->limit);
    loop_close(&connection->socket);
    relay_refuse(&connection->relay, name_error(error), strerror(error));
}

static void on_limit(struct timer *timer)
{
    give_up(timer->owner, ETIMEDOUT);
}

static void on_connected(struct watch *watch, uint32_t events)
{
    struct connection *connection = watch->owner;
    int error = 0;
    socklen_t size = sizeof error;
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0)
        return;
    if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    int fd = error == 0 ? fcntl(watch->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (error == 0 && fd < 0)
        error = errno;
    if (error != 0) {
        give_up(connection, error);
        return;
    }
    timer_stop(&connection->limit);
    loop_close(watch);
    relay_begin(&connection->relay, fd, true);
}

static bool read_target(const struct json *message, struct target *target, char fault[FAULT_TEXT])
{
    struct place place = {message, 0, "", fault};
    const char *host;
    uint32_t port;
    if (!place_text(&place, "host", "127.0.0.1", &host) || !place_small(&place, "port", 1, 65535, 0, &port))
        return false;
    memset(target, 0, sizeof *target);
    if (inet_pton(AF_INET, host, &target->v4.sin_addr) == 1) {
        target->v4.sin_family = AF_INET;
        target->v4.sin_port = htons((uint16_t)port);
        target->length = sizeof target->v4;
    } else if (inet_pton(AF_INET6, host, &target->v6.sin6_addr) == 1) {
        target->v6.sin6_family = AF_INET6;
        target->v6.sin6_port = htons((uint16_t)port);
        target->length = sizeof target->v6;
    } else {
        return place_blame(&place, "host", "no IPv4 or IPv6 address");
    }
    return true;
}

void connect_open(struct stream *stream, const struct json *message)
{
    struct target target;
    char fault[FAULT_TEXT];
    if (!read_target(message, &target, fault)) {
        stream_refuse(stream, "malformed", fault);
        return;
    }
    struct connection *connection = connection_count < CONNECTIONS_MAX ? calloc(1, sizeof *connection) : NULL;
    if (connection == NULL) {
        stream_refuse(stream, "busy", "too many connections");
        return;
    }
    connection_count++;
    connection->relay.gone = gone;
    connection->socket = (struct watch){-1, on_connected, connection};
    connection->limit = (struct timer){.fire = on_limit, .owner = connection};
    relay_open(&connection->relay, stream);
    connection->socket.fd = socket(target.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->socket.fd < 0) {
        give_up(connection, errno);
        return;
    }
    setsockopt(connection->socket.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    bool failed = connect(connection->socket.fd, &target.any, target.length) != 0 && errno != EINPROGRESS;
    if (failed || !loop_watch(&connection->socket, EPOLLOUT | EPOLLET)) {
        give_up(connection, errno);
        return;
    }
    timer_set(&connection->limit, CONNECT_LIMIT_MS);
}
