#ifndef KESTREL_ATTACH_H
#define KESTREL_ATTACH_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "json.h"
#include "program.h"
#include "stream.h"

/* The workload's stdin or terminal, and those who look on. Everything it writes also goes to the log, whoever looks. */

void attach_open(struct stream *stream, const struct json *message);

/* Start the workload as its configuration says: on a terminal, with a stdin, or with neither. `program` is for its keeper, but for
   `stdin_fd`, which stays here. False with errno set. */
bool attach_start(const struct config *config, struct program *program);

/* What it wrote: `source` is 0 for stdout or its terminal, 1 for stderr. */
void attach_output(size_t source, const char *bytes, size_t length);

/* It ended, and may be started again; it ended for good, with waitpid's status or, when it never ran, -1. */
void attach_ended(void);
void attach_over(int status);

/* Everybody was given all there is. */
bool attach_is_drained(void);

#endif
