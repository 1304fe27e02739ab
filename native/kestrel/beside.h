#ifndef KESTREL_BESIDE_H
#define KESTREL_BESIDE_H

#include "json.h"
#include "stream.h"

/* The streams beside control: each kind, and when it may be opened. */
void beside_open(struct stream *stream, const struct json *message, const char *kind);

#endif
