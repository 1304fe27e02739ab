#ifndef KESTREL_NET_H
#define KESTREL_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* Loopback and the interfaces of the configuration, over rtnetlink. False with the reason in `text`. */
bool net_apply(const struct config *config, char *text, size_t size);

#endif
