#ifndef KESTREL_CONFIGURATION_H
#define KESTREL_CONFIGURATION_H

#include <stdbool.h>

#include "config.h"
#include "ticket.h"

/* The one configuration that holds: taken by `configure`, replaced by `renew`. */

void configuration_take(struct ticket ticket, const struct json *message);
void configuration_renew(struct ticket ticket, const struct json *message);

/* Accepted; and in force, which comes later. */
bool configuration_is_accepted(void);
bool configuration_is_in_force(void);

/* What holds, once something is accepted. Its digest is "" before. */
const struct config *configuration(void);
const char *configuration_digest(void);

#endif
