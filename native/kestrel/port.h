#ifndef KESTREL_PORT_H
#define KESTREL_PORT_H

#include <stdint.h>

/* Open the virtio-serial port of this name without blocking, waiting at most `limit_ms` for it; -1 when it does not come. */
int port_open(const char *name, uint64_t limit_ms);

#endif
