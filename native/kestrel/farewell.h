#ifndef KESTREL_FAREWELL_H
#define KESTREL_FAREWELL_H

#include <stdbool.h>
#include <stddef.h>

/* The line that a host which was away reads of the console: docs/guest-protocol.md, section 8. */

enum { FAREWELL_SIZE = 160 };

/* The line, with the newlines around it; its length. `status` is of wait(2), and counts when the workload has `ended`. */
size_t farewell_write(char line[FAREWELL_SIZE], const char *digest, bool ended, int status, const char *reason);

/* Leave it on the console, unless nobody ever said who this guest is. Waits a moment for a console that is slow. */
void farewell_say(const char *reason);

#endif
