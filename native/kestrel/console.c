#include "console.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
