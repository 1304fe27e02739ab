#ifndef KESTREL_NET_H
#define KESTREL_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* Loopback and the interfaces of the configuration, over rtnetlink. False with the reason in `text`. */
bool net_apply(const struct config *config, char *text, size_t size);

/* The same for a guest that had other interfaces before: what they had goes first, and what is not named any more goes down. */
bool net_renew(const struct config *config, char *text, size_t size);

#endif
