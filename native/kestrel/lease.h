#ifndef KESTREL_LEASE_H
#define KESTREL_LEASE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

enum { ROUTES_MAX = 16 };

struct lease_route {
    struct in_addr destination;
    uint8_t prefix;
    struct in_addr gateway; /* 0.0.0.0: on the link itself */
};

/* What a network gave an interface. Its routes hold the default one, if there is one. */
struct lease {
    struct in_addr address;
    uint8_t prefix;
    struct in_addr server;
    size_t route_count;
    struct lease_route routes[ROUTES_MAX];
    size_t nameserver_count;
    struct in_addr nameservers[NAMESERVERS_MAX];
    uint32_t lease_s; /* UINT32_MAX: for ever */
    uint32_t renew_s;
    uint32_t rebind_s;
};

#endif
