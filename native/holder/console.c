#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "logfile.h"

enum {
    READ_SIZE = 16384,
    TYPED_SIZE = 4096,
    OTHERS_MAX = 4,
    SPAN_MS = 100,           /* in each span the guest may write so much, */
    SPAN_BYTES = 512 * 1024, /* and waits for the next one with the rest */
    DRAIN_READS = 256,
};

static struct logfile log_file;
static int console = -1, listener = -1;
static char typed[TYPED_SIZE];
static size_t typed_length;
static long long span_start_ms;
static size_t span_bytes;

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void console_open(int dir_fd, int console_fd, int listen_fd, size_t log_max)
{
    console = console_fd;
    listener = listen_fd;
    fcntl(console, F_SETFL, fcntl(console, F_GETFL) | O_NONBLOCK);
    fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
    logfile_open(&log_file, dir_fd, "console.log", log_max);
}

static bool read_console(void)
{
    char bytes[READ_SIZE];
    ssize_t length = read(console, bytes, sizeof bytes);
    if (length > 0) {
        span_bytes += (size_t)length;
        logfile_write(&log_file, bytes, (size_t)length);
        clients_write(bytes, (size_t)length);
        return true;
    }
    if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(console); /* the other end is gone, and its process soon */
        console = -1;
    }
    return false;
}

static void write_typed(void)
{
    ssize_t written = console < 0 ? (ssize_t)typed_length : write(console, typed, typed_length);
    if (written < 0 && errno != EAGAIN && errno != EINTR)
        written = (ssize_t)typed_length;
    if (written <= 0)
        return;
    typed_length -= (size_t)written;
    memmove(typed, typed + written, typed_length);
}

/* How long the console must be left alone; 0 when it may be read. */
static int pause_ms(void)
{
    long long now = now_ms();
    if (now - span_start_ms >= SPAN_MS) {
        span_start_ms = now;
        span_bytes = 0;
    }
    return span_bytes < SPAN_BYTES ? 0 : (int)(span_start_ms + SPAN_MS - now);
}

void console_wait(struct pollfd *others, size_t count)
{
    struct pollfd polls[2 + OTHERS_MAX + CLIENTS_MAX];
    int rest_ms = pause_ms();
    short events = (short)((rest_ms == 0 ? POLLIN : 0) | (typed_length > 0 ? POLLOUT : 0));
    polls[0] = (struct pollfd){.fd = events != 0 ? console : -1, .events = events};
    polls[1] = (struct pollfd){.fd = listener, .events = POLLIN};
    memcpy(polls + 2, others, count * sizeof *others);
    size_t watchers = clients_poll(polls + 2 + count, typed_length == 0);
    if (poll(polls, 2 + count + watchers, rest_ms > 0 ? rest_ms : -1) < 0)
        memset(polls, 0, sizeof polls);
    memcpy(others, polls + 2, count * sizeof *others);
    size_t taken = clients_handle(polls + 2 + count, watchers, typed + typed_length, sizeof typed - typed_length);
    typed_length += taken;
    if (typed_length > 0)
        write_typed();
    if ((polls[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        read_console();
    if ((polls[1].revents & POLLIN) != 0)
        clients_accept(listener);
}

void console_drain(void)
{
    for (int i = 0; i < DRAIN_READS && console >= 0; i++)
        if (!read_console())
            break;
    clients_flush();
}
