#ifndef KESTREL_IDENTITY_H
#define KESTREL_IDENTITY_H

#include "config.h"

/* The files of /etc that say who this guest is: hostname, machine-id, hosts, resolv.conf. What fails is said on the console. */
void identity_write(const struct config *config);

#endif
