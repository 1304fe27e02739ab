#ifndef KESTREL_DEMANDS_H
#define KESTREL_DEMANDS_H

#include <stdbool.h>

#include "config.h"
#include "place.h"

/* What a workload of the document asks of kestrel beside being run: probes, hooks, limits, a terminal. */
bool demands_read(const struct place *workload, struct config *config);

#endif
