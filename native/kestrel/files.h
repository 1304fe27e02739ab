#ifndef KESTREL_FILES_H
#define KESTREL_FILES_H

#include <stdbool.h>
#include <sys/types.h>

#include "json.h"
#include "stream.h"

/* Files of the workload's root, in both directions. A child does the work: a disk may keep it waiting, a frozen one for long. */

void files_open_read(struct stream *stream, const struct json *message);
void files_open_write(struct stream *stream, const struct json *message);

/* A child ended; false when it is none of ours. */
bool files_reaped(pid_t pid);

void files_signal_all(int number);

/* What the children do. */
_Noreturn void files_read(const char *wanted);
_Noreturn void files_write(const char *wanted);

#endif
