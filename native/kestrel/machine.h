#ifndef KESTREL_MACHINE_H
#define KESTREL_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "lease.h"

/* What differs between a guest and the test agent on a host: guest.c and pretend.c each hold one of these. */

/* Mix what the host sent for this session into the kernel's random numbers. */
void machine_mix_nonce(const uint8_t nonce[NONCE_SIZE]);

/* Apply everything of the document but the workload. False with the reason in `text`; `warnings` go to the console. */
bool machine_configure(const struct config *config, char *text, size_t size);

/* The same for a guest that has an identity already: its root is not touched. */
bool machine_renew(const struct config *config, char *text, size_t size);

/* An interface has `now` in place of `before`; either may be NULL. False with the reason in `text`: it has what could be done. */
bool machine_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size);

/* Step the wall clock. */
bool machine_set_clock(int64_t unix_ns);

/* Write to the disks what is only in memory. May take long. */
void machine_sync(void);

/* The root's writable layer lies on a disk, so that there is something to freeze. */
bool machine_can_freeze(void);

/* Let nobody write to that layer; waits for those who are writing. False with errno set. */
bool machine_freeze(void);

/* False when it was not frozen. */
bool machine_thaw(void);

/* Signal every process but PID 1. */
void machine_signal_all(int number);

/* File systems away, power off. */
_Noreturn void machine_power_off(void);

#endif
