#ifndef KESTREL_SHUTDOWN_H
#define KESTREL_SHUTDOWN_H

#include <stdbool.h>
#include <stdint.h>

/* The orderly end: the workload, then everybody else, then the machine. */

enum stop_reason { STOP_REQUESTED, STOP_WORKLOAD_ENDED, STOP_FAILED, STOP_RESTART_LIMIT };

/* Only the first call counts, but a later one may shorten the grace. */
void shutdown_begin(enum stop_reason reason, uint32_t grace_ms);
bool shutdown_has_begun(void);
const char *shutdown_reason(void);

/* The workload has ended after it was asked to. */
void shutdown_workload_ended(void);

/* The last child was reaped. */
void shutdown_no_children(void);

#endif
