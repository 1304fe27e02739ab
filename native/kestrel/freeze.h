#ifndef KESTREL_FREEZE_H
#define KESTREL_FREEZE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ticket.h"

/* Keeping the disk still while the host copies it. What may take long is done by children, who are waited for like all others. */

/* Write everything out; answered when it is. */
void freeze_sync(struct ticket ticket);

/* Write everything out and let nobody write any more; answered when it is so, and it ends by itself `timeout_ms` after that. */
void freeze_begin(struct ticket ticket, uint32_t timeout_ms);
void freeze_thaw(struct ticket ticket);

/* Thaw what is frozen. False while it is only being frozen: it will be thawed as soon as that is done. */
bool freeze_end(void);

/* A child ended; false when it is none of ours. */
bool freeze_reaped(pid_t pid, int status);

#endif
