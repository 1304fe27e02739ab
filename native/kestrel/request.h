#ifndef KESTREL_REQUEST_H
#define KESTREL_REQUEST_H

#include "json.h"
#include "ticket.h"

/* A request of the host: answered at once, or later by who carries it out. */
void request_take(struct ticket ticket, const struct json *message);

#endif
