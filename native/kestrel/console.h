#ifndef KESTREL_CONSOLE_H
#define KESTREL_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

/* Short lines for whoever reads the serial console. A console that takes nothing loses them and never blocks. */

void console_open(int fd);
void console_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For a last line: write all of it and wait, at most so long, until the device has taken it. */
void console_insist(const char *line, size_t length, uint32_t most_ms);

#endif
