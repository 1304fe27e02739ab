#ifndef KESTREL_LOGS_H
#define KESTREL_LOGS_H

#include "json.h"
#include "stream.h"

/* Streams that read the log ring. */
void logs_open(struct stream *stream, const struct json *message);

#endif
