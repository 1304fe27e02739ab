#ifndef HOLDER_CLIENTS_H
#define HOLDER_CLIENTS_H

#include <poll.h>
#include <stddef.h>

/* Who watches the console: at most 8, each with a bounded buffer. The first still attached may type. */

enum { CLIENTS_MAX = 8 };

/* Fill in what to wait for; the number of entries. `may_type` says whether typed bytes can be taken now. */
size_t clients_poll(struct pollfd *polls, int may_type);

/* Deal with what poll said. Bytes typed by the first client go to `typed`; the number of them is returned. */
size_t clients_handle(const struct pollfd *polls, size_t count, char *typed, size_t room);

void clients_accept(int listen_fd);
void clients_write(const char *bytes, size_t length);

/* Send what their sockets take; at the end of everything. */
void clients_flush(void);

#endif
