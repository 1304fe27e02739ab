#ifndef KESTREL_CONTROL_H
#define KESTREL_CONTROL_H

#include <stdbool.h>

#include "json.h"
#include "stream.h"

/* The control stream: hello, notices, requests. Also where every opening message arrives. */

void control_open_stream(struct stream *stream, const struct json *message);

/* Notices that are due; the latest content goes out when the host takes it. */
void control_workload_changed(void);
void control_health_changed(void);
void control_stopping(void);
void control_mark_started(void);

/* Nothing waits to be told. */
bool control_is_drained(void);

#endif
