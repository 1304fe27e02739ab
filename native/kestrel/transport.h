#ifndef KESTREL_TRANSPORT_H
#define KESTREL_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Open the way to the host that this machine has: the virtio port of this name, or vsock. False when neither comes in time. */
bool transport_open(const char *port, uint64_t limit_ms);

#endif
