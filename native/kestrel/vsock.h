#ifndef KESTREL_VSOCK_H
#define KESTREL_VSOCK_H

#include <stdbool.h>

/* The channel where there is no virtio port: the guest listens, and a new connection takes the old one's place. */

enum { VSOCK_PORT = 1024 };

/* The machine has a vsock device. */
bool vsock_is_there(void);

/* Listen for the host on VSOCK_PORT. -1 with errno set; does not block and closes on exec. */
int vsock_listen(void);

/* Whether the other end is the host (CID 2): programs of the guest may know the port, too. */
bool vsock_is_host(int fd);

/* Serve those who come to this listening socket and are let in, the newest of them. */
bool vsock_serve(int listener_fd, bool (*is_let_in)(int fd));

#endif
