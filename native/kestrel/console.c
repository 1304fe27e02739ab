#include "console.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOK_MS = 2 };

static int console_fd = -1;

void console_open(int fd)
{
    console_fd = fd;
}

void console_say(const char *format, ...)
{
    char line[512] = "kestrel: ";
    size_t used = strlen(line);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || console_fd < 0)
        return;
    used = strlen(line);
    line[used++] = '\n';
    if (write(console_fd, line, used) < 0)
        return; /* full or gone: nothing better to do with the line */
}

/* What a terminal has not sent yet; nothing, for what is none. */
static bool is_sent(void)
{
    int waiting = 0;
    return ioctl(console_fd, TIOCOUTQ, &waiting) != 0 || waiting == 0;
}

void console_insist(const char *line, size_t length, uint32_t most_ms)
{
    size_t sent = 0;
    for (uint32_t waited_ms = 0; console_fd >= 0 && waited_ms < most_ms; waited_ms += LOOK_MS) {
        ssize_t written = sent < length ? write(console_fd, line + sent, length - sent) : 0;
        if (written < 0 && errno != EAGAIN && errno != EINTR)
            return;
        sent += written > 0 ? (size_t)written : 0;
        if (sent == length && is_sent())
            return;
        poll(NULL, 0, LOOK_MS); /* a terminal that has room does not say so before it has a lot */
    }
}
