#ifndef KESTREL_HOOK_H
#define KESTREL_HOOK_H

#include <stdbool.h>

#include "config.h"

/* What is done at a moment of the workload's life, one at a time. */

/* `done` is called once, perhaps before this returns. With `patient` a request is made again while nobody listens yet. */
void hook_run(const struct question *hook, const struct command *workload, uint32_t timeout_ms, bool patient,
              void (*done)(bool well, const char *message));

/* Give it up; `done` is not called. */
void hook_stop(void);

#endif
