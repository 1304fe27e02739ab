#ifndef KESTREL_CONSOLE_H
#define KESTREL_CONSOLE_H

/* Short lines for whoever reads the serial console. A console that takes nothing loses them and never blocks. */

void console_open(int fd);
void console_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
