#ifndef KESTREL_STATS_H
#define KESTREL_STATS_H

#include "writer.h"

/* The answer to `stats`: memory, load, processor time, uptime. */
void stats_describe(struct writer *writer);

#endif
