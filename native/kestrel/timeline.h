#ifndef KESTREL_TIMELINE_H
#define KESTREL_TIMELINE_H

#include "writer.h"

/* When the guest reached what, in milliseconds of uptime. */

enum milestone { MILESTONE_INIT, MILESTONE_MODULES, MILESTONE_ROOTFS, MILESTONE_CHANNEL, MILESTONE_CONFIGURED, MILESTONE_STARTED, MILESTONES };

/* Only the first time counts. */
void timeline_mark(enum milestone milestone);
void timeline_describe(struct writer *writer);

#endif
