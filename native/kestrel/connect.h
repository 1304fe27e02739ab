#ifndef KESTREL_CONNECT_H
#define KESTREL_CONNECT_H

#include "json.h"
#include "stream.h"

/* TCP connections that are made inside the guest for the host, one a stream. */
void connect_open(struct stream *stream, const struct json *message);

#endif
