#ifndef KESTREL_IDENTITY_H
#define KESTREL_IDENTITY_H

#include "config.h"
#include "lease.h"

/* The files of /etc that say who this guest is: hostname, machine-id, hosts, resolv.conf. What fails is said on the console. */
void identity_write(const struct config *config);

/* resolv.conf alone, with the name servers of a lease. */
void identity_write_nameservers(const struct lease *lease);

#endif
