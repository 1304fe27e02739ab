#ifndef KESTREL_CHANNEL_H
#define KESTREL_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "preamble.h"

/* The byte stream to the host: preambles in, sessions, bounded output. Never blocks. */

/* Takes the descriptor, which must not block. */
bool channel_open(int fd);

/* The same for one that takes the place of what was open; the session is the caller's to end. Nothing is said until the next preamble. */
bool channel_replace(int fd);

/* For transports whose end is seen (a socket): called when the host hung up; the session stays until the next preamble. */
void channel_on_hang_up(void (*hung_up)(void));

void channel_set_secret(const uint8_t secret[SECRET_SIZE]);

/* Send what there is to send, as far as the transport takes it. True when more could be sent at once. */
bool channel_flush(void);

/* A session is open on an open transport. */
bool channel_is_attached(void);

/* Nothing that was produced waits to be sent. */
bool channel_is_drained(void);

#endif
