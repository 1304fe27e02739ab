#include "clients.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 65536, DISCARD_SIZE = 512 };

struct client {
    int fd;
    size_t start;
    size_t length;
    char *buffer; /* a ring */
};

static char buffers[CLIENTS_MAX][BUFFER_SIZE];
static struct client clients[CLIENTS_MAX]; /* in the order they came */
static size_t count;

static void remove_client(size_t index)
{
    struct client gone = clients[index];
    close(gone.fd);
    memmove(&clients[index], &clients[index + 1], (count - index - 1) * sizeof clients[0]);
    count--;
    clients[count] = (struct client){.buffer = gone.buffer}; /* its buffer stays with a free place */
}

static int send_buffer(struct client *client)
{
    while (client->length > 0) {
        size_t until_wrap = BUFFER_SIZE - client->start;
        size_t part = client->length < until_wrap ? client->length : until_wrap;
        ssize_t sent = send(client->fd, client->buffer + client->start, part, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return errno == EAGAIN ? 0 : -1;
        client->start = (client->start + (size_t)sent) % BUFFER_SIZE;
        client->length -= (size_t)sent;
    }
    return 0;
}

void clients_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (count == CLIENTS_MAX) {
        close(fd);
        return;
    }
    if (clients[count].buffer == NULL)
        clients[count].buffer = buffers[count];
    clients[count].fd = fd;
    clients[count].start = clients[count].length = 0;
    count++;
}

size_t clients_poll(struct pollfd *polls, int may_type)
{
    for (size_t i = 0; i < count; i++) {
        short events = clients[i].length > 0 ? POLLOUT : 0;
        polls[i] = (struct pollfd){.fd = clients[i].fd, .events = (short)(events | (i > 0 || may_type ? POLLIN : 0))};
    }
    return count;
}

/* How many bytes were typed, or -1 when the client has gone. */
static ssize_t receive(size_t index, char *typed, size_t room)
{
    char discarded[DISCARD_SIZE];
    ssize_t length = index == 0 ? recv(clients[index].fd, typed, room, MSG_DONTWAIT) : recv(clients[index].fd, discarded, sizeof discarded, MSG_DONTWAIT);
    if (length == 0)
        return -1;
    if (length < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return index == 0 ? length : 0;
}

size_t clients_handle(const struct pollfd *polls, size_t polled, char *typed, size_t room)
{
    size_t taken = 0;
    /* From the last one down, so that removing one moves nobody who is still to come. */
    for (size_t i = polled; i-- > 0;) {
        short happened = polls[i].revents;
        ssize_t length = (happened & POLLIN) != 0 ? receive(i, typed, room) : (happened & (POLLHUP | POLLERR)) != 0 ? -1 : 0;
        if (length > 0)
            taken = (size_t)length;
        if (length < 0 || ((happened & POLLOUT) != 0 && send_buffer(&clients[i]) != 0))
            remove_client(i);
    }
    return taken;
}

void clients_write(const char *bytes, size_t length)
{
    for (size_t i = 0; i < count; i++) {
        struct client *client = &clients[i];
        size_t room = BUFFER_SIZE - client->length;
        size_t kept = length < room ? length : room; /* a slow reader loses the rest */
        for (size_t at = 0; at < kept;) {
            size_t end = (client->start + client->length) % BUFFER_SIZE;
            size_t part = kept - at < BUFFER_SIZE - end ? kept - at : BUFFER_SIZE - end;
            memcpy(client->buffer + end, bytes + at, part);
            client->length += part;
            at += part;
        }
    }
}

void clients_flush(void)
{
    for (size_t i = 0; i < count; i++)
        send_buffer(&clients[i]);
}
