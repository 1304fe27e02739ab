#ifndef HOLDER_CONSOLE_H
#define HOLDER_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

/* The guest's serial console: into the log, to the clients, and back what the first client types. */

void console_open(int dir_fd, int console_fd, int listen_fd, size_t log_max);

/* Wait for anything of the console, or for one of `others` (poll's), which are filled in with what happened. */
struct pollfd;
void console_wait(struct pollfd *others, size_t count);

/* What the guest wrote before it ended. */
void console_drain(void);

#endif
