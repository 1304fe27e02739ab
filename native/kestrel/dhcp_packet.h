#ifndef KESTREL_DHCP_PACKET_H
#define KESTREL_DHCP_PACKET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lease.h"

/* DHCP messages as RFC 2131, 2132 and 3442 lay them out. */

enum { DHCP_DISCOVER = 1, DHCP_OFFER, DHCP_REQUEST, DHCP_DECLINE, DHCP_ACK, DHCP_NAK };
enum { DHCP_SERVER_PORT = 67, DHCP_CLIENT_PORT = 68, DHCP_PACKET_MAX = 576, DHCP_FRAME_MAX = DHCP_PACKET_MAX + 28, DHCP_ANSWER_MAX = 1500 };

struct dhcp_question {
    uint8_t type;
    uint32_t transaction;
    uint16_t seconds; /* since it began to ask */
    const uint8_t *mac;
    const char *hostname;
    struct in_addr own;       /* the address that it has already, or 0.0.0.0 */
    struct in_addr requested; /* or 0.0.0.0 */
    struct in_addr server;    /* or 0.0.0.0 */
};

/* `packet` has room for DHCP_PACKET_MAX bytes; returns how many it took. */
size_t dhcp_encode(const struct dhcp_question *question, uint8_t *packet);

/* The same with IP and UDP heads, from nobody to everybody; `frame` has room for DHCP_FRAME_MAX bytes. */
size_t dhcp_wrap(const uint8_t *packet, size_t length, uint8_t *frame);

/* False unless it is a well-formed offer, acknowledgement or refusal, meant for us; a lease is filled in but for a refusal. */
bool dhcp_decode(const uint8_t *packet, size_t length, uint32_t transaction, const uint8_t mac[6], uint8_t *type, struct lease *lease);

#endif
