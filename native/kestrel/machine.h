#ifndef KESTREL_MACHINE_H
#define KESTREL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* What differs between a guest and the test agent on a host: guest.c and pretend.c each hold one of these. */

/* Apply everything of the document but the workload. False with the reason in `text`; `warnings` go to the console. */
bool machine_configure(const struct config *config, char *text, size_t size);

/* Step the wall clock. */
bool machine_set_clock(int64_t unix_ns);

/* Signal every process but PID 1. */
void machine_signal_all(int number);

/* File systems away, power off. */
_Noreturn void machine_power_off(void);

#endif
