#ifndef KESTREL_HEALTH_H
#define KESTREL_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "writer.h"

/* How the workload is, by its probes: asked only while it runs, and after its post_start hook. */

void health_begin(const struct config *config);
void health_end(void);

/* Other settings hold. Probes under way are given up, and the next made at once. */
void health_renew(const struct config *config);

/* Time has passed that this guest did not see: probe at once. */
void health_hurry(void);

/* The members of the health notice, or nothing while there is no workload. */
bool health_describe(struct writer *writer);

/* 0 while the status line is incomplete, 200 to 599 and the like, or -1 when it is none. */
int health_read_status(const char *answer, size_t length);

#endif
