#ifndef KESTREL_EXEC_H
#define KESTREL_EXEC_H

#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "json.h"
#include "stream.h"

/* Programs beside the workload, one a stream. */

void exec_open(struct stream *stream, const struct json *message, const struct command *workload);

/* A child ended; false when it is none of ours. */
bool exec_reaped(pid_t pid, int status);

/* Signal the process group of every exec. */
void exec_signal_all(int number);

#endif
