#ifndef KESTREL_STATS_H
#define KESTREL_STATS_H

#include "writer.h"

/* The answer to `stats`: memory, load, processes, processor time, uptime, disks, cards. */
void stats_describe(struct writer *writer);

#endif
