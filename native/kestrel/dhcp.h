#ifndef KESTREL_DHCP_H
#define KESTREL_DHCP_H

#include <stdbool.h>

#include "config.h"
#include "writer.h"

/* A DHCP client for each interface that the document says has one. What it is given is applied by machine_take_lease. */

/* Begin to ask; what was had before is forgotten. The interfaces are up and have no address. */
void dhcp_start(const struct config *config);
void dhcp_stop(void);

/* Time has passed that this guest did not see: ask whether what it has still holds. */
void dhcp_hurry(void);

/* The members of the network notice, or nothing while no interface is asked for. */
bool dhcp_describe(struct writer *writer);

#endif
