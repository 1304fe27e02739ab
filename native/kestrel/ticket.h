#ifndef KESTREL_TICKET_H
#define KESTREL_TICKET_H

#include <stdint.h>

/* Whom an answer is for. It may come late, and goes nowhere once the session that asked is over. */
struct ticket {
    uint32_t session;
    int64_t id; /* 0: nobody waits */
};

#endif
