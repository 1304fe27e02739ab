#ifndef KESTREL_CONTROL_H
#define KESTREL_CONTROL_H

#include <stdbool.h>

#include "json.h"
#include "stream.h"
#include "ticket.h"
#include "writer.h"

/* The control stream: hello, notices, requests and their answers. Also where every opening message arrives. */

void control_open_stream(struct stream *stream, const struct json *message);

/* Answer a request: with what `describe` writes, with one flag, or with an error. */
void control_answer(struct ticket ticket, void (*describe)(struct writer *writer));
void control_answer_flag(struct ticket ticket, const char *name, bool value);
void control_refuse(struct ticket ticket, const char *code, const char *text);

/* Notices that are due; the latest content goes out when the host takes it. */
void control_workload_changed(void);
void control_health_changed(void);
void control_network_changed(void);
void control_stopping(void);
void control_mark_started(void);

/* Nothing waits to be told. */
bool control_is_drained(void);

#endif
