#ifndef KESTREL_HEALTH_H
#define KESTREL_HEALTH_H

#include <stdbool.h>

#include "config.h"
#include "writer.h"

/* The HTTP probe of the workload, made only while it runs. */

void health_begin(const char *workload, const struct probe *probe);
void health_end(void);

/* Other settings hold. A probe under way is given up, and the next made at once. */
void health_renew(const char *workload, const struct probe *probe);

/* Time has passed that this guest did not see: probe at once. */
void health_hurry(void);

/* The members of the health notice, or nothing while there is no workload. */
bool health_describe(struct writer *writer);

/* 0 while the status line is incomplete, 200 to 599 and the like, or -1 when it is none. */
int health_read_status(const char *answer, size_t length);

#endif
