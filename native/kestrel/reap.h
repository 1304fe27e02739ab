#ifndef KESTREL_REAP_H
#define KESTREL_REAP_H

#include <stdbool.h>

/* Signals as events: children that end are reaped at once, whoever's they were. */
bool reap_open(void);

#endif
