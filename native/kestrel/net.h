#ifndef KESTREL_NET_H
#define KESTREL_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "lease.h"

/* Loopback and the interfaces of the configuration, over rtnetlink. False with the reason in `text`. */
bool net_apply(const struct config *config, char *text, size_t size);

/* The same for a guest that had other interfaces before: what they had goes first, and what is not named any more goes down. */
bool net_renew(const struct config *config, char *text, size_t size);

/* The interface with this index has what `now` says in place of what `before` says; either may be NULL. */
bool net_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size);

#endif
