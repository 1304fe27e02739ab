#ifndef KESTREL_WORKLOAD_H
#define KESTREL_WORKLOAD_H

#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "writer.h"

/* The one workload: started, watched, started again. */

void workload_start(const struct config *config);

/* Another configuration holds: what runs goes on, its next start and its end are as that says. */
void workload_renew(const struct config *config);

/* It cannot be started at all; `message` says why. */
void workload_fail(const char *name, const char *message);

bool workload_reaped(pid_t pid, int status);
bool workload_is_running(void);

/* It ran and ended, the last time with `*status`, as of wait(2). */
bool workload_has_ended(int *status);

/* It is to end, because of `why`; its restart policy decides what follows. */
void workload_condemn(const char *why);

/* Never start it again, and ask it to end, after its pre_stop hook. False when it does not run. */
bool workload_stop(uint32_t grace_ms);
void workload_signal_group(int number);

/* The members of the workload notice, or nothing while there is no workload. */
bool workload_describe(struct writer *writer);

#endif
