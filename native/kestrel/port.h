#ifndef KESTREL_PORT_H
#define KESTREL_PORT_H

#include <stdbool.h>

/* Open the virtio-serial port of this name, which does not block; -1 when it is not there yet. */
int port_open(const char *name);

/* The machine has a virtio console that can have such ports. */
bool port_may_come(void);

/* It has a virtio vsock device, whether or not the driver is there. */
bool port_is_vsock(void);

#endif
