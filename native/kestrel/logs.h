#ifndef KESTREL_LOGS_H
#define KESTREL_LOGS_H

#include <stdbool.h>

#include "json.h"
#include "stream.h"

/* Streams that read the log ring. */
void logs_open(struct stream *stream, const struct json *message);

/* Whether every reader has been given all that there is. */
bool logs_are_drained(void);

#endif
