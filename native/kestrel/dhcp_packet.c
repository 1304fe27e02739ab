#include "dhcp_packet.h"

#include <string.h>

#include "frame.h"

enum {
    HEAD_SIZE = 240, /* with the magic cookie */
    SNAME_AT = 44,
    SNAME_SIZE = 64,
    FILE_AT = 108,
    FILE_SIZE = 128,
    IP_HEAD = 20,
    UDP_HEAD = 8,
    HOSTNAME_MAX = 63,
    PACKET_MIN = 300, /* what BOOTP's relays want */
    LEASE_MIN_S = 2,
    HOPS = 64,
};

enum {
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_NAMESERVER = 6,
    OPTION_HOSTNAME = 12,
    OPTION_REQUESTED = 50,
    OPTION_LEASE = 51,
    OPTION_OVERLOAD = 52,
    OPTION_TYPE = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_SIZE = 57,
    OPTION_RENEW = 58,
    OPTION_REBIND = 59,
    OPTION_CLIENT = 61,
    OPTION_ROUTES = 121,
    OPTION_END = 255,
};

static const uint8_t COOKIE[4] = {99, 130, 83, 99};

static uint8_t *put_option(uint8_t *at, uint8_t code, const void *bytes, size_t length)
{
    at[0] = code;
    at[1] = (uint8_t)length;
    memcpy(at + 2, bytes, length);
    return at + 2 + length;
}

static uint8_t *put_address(uint8_t *at, uint8_t code, struct in_addr address)
{
    return address.s_addr == 0 ? at : put_option(at, code, &address, 4);
}

size_t dhcp_encode(const struct dhcp_question *question, uint8_t *packet)
{
    static const uint8_t WANTED[] = {OPTION_MASK, OPTION_ROUTER, OPTION_NAMESERVER, OPTION_LEASE, OPTION_SERVER, OPTION_RENEW, OPTION_REBIND, OPTION_ROUTES};
    static const uint8_t SIZE[2] = {DHCP_PACKET_MAX >> 8, DHCP_PACKET_MAX & 255};
    uint8_t client[7] = {1};
    size_t name = strlen(question->hostname);
    memset(packet, 0, DHCP_PACKET_MAX);
    packet[0] = 1; /* a request */
    packet[1] = 1; /* Ethernet */
    packet[2] = 6;
    store_u32(packet + 4, question->transaction);
    packet[8] = (uint8_t)(question->seconds >> 8);
    packet[9] = (uint8_t)question->seconds;
    packet[10] = question->own.s_addr == 0 ? 0x80 : 0; /* who has no address can hear what everybody hears */
    memcpy(packet + 12, &question->own, 4);
    memcpy(packet + 28, question->mac, 6);
    memcpy(packet + HEAD_SIZE - 4, COOKIE, 4);
    memcpy(client + 1, question->mac, 6);
    uint8_t *at = put_option(packet + HEAD_SIZE, OPTION_TYPE, &question->type, 1);
    at = put_option(at, OPTION_CLIENT, client, sizeof client);
    at = put_address(at, OPTION_REQUESTED, question->requested);
    at = put_address(at, OPTION_SERVER, question->server);
    at = put_option(at, OPTION_SIZE, SIZE, sizeof SIZE);
    at = put_option(at, OPTION_WANTED, WANTED, sizeof WANTED);
    at = put_option(at, OPTION_HOSTNAME, question->hostname, name < HOSTNAME_MAX ? name : HOSTNAME_MAX);
    *at++ = OPTION_END;
    size_t length = (size_t)(at - packet);
    return length < PACKET_MIN ? PACKET_MIN : length;
}

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 2)
        sum += (uint32_t)bytes[i] << 8 | (i + 1 < length ? bytes[i + 1] : 0u);
    return sum;
}

static void store_sum(uint8_t *to, uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum & 0xffff;
    to[0] = (uint8_t)(sum >> 8);
    to[1] = (uint8_t)sum;
}

size_t dhcp_wrap(const uint8_t *packet, size_t length, uint8_t *frame)
{
    size_t datagram = UDP_HEAD + length, whole = IP_HEAD + datagram;
    memset(frame, 0, IP_HEAD + UDP_HEAD);
    frame[0] = 0x45;
    frame[2] = (uint8_t)(whole >> 8);
    frame[3] = (uint8_t)whole;
    frame[6] = 0x40; /* not to be cut */
    frame[8] = HOPS;
    frame[9] = IPPROTO_UDP;
    memset(frame + 16, 0xff, 4);
    store_sum(frame + 10, add_words(0, frame, IP_HEAD));
    uint8_t *udp = frame + IP_HEAD;
    udp[1] = DHCP_CLIENT_PORT;
    udp[3] = DHCP_SERVER_PORT;
    udp[4] = (uint8_t)(datagram >> 8);
    udp[5] = (uint8_t)datagram;
    memcpy(udp + UDP_HEAD, packet, length);
    /* The pseudo head: both addresses, the protocol, the length. */
    store_sum(udp + 6, add_words(add_words(0, frame + 12, 8) + IPPROTO_UDP + (uint32_t)datagram, udp, datagram));
    if (udp[6] == 0 && udp[7] == 0)
        udp[6] = udp[7] = 0xff;
    return whole;
}

/* What the options say; the first of each counts. */
struct found {
    uint8_t type;
    uint8_t overload;
    bool has_mask;
    uint32_t mask;
    struct in_addr router;
    bool has_routes;
    const uint8_t *routes;
    size_t routes_length;
    const uint8_t *nameservers;
    size_t nameservers_length;
    struct in_addr server;
    uint32_t lease_s;
    uint32_t renew_s;
    uint32_t rebind_s;
};

static void take_number(uint32_t *number, const uint8_t *bytes, size_t length)
{
    if (length == 4 && *number == 0)
        *number = load_u32(bytes);
}

static void take_address(struct in_addr *address, const uint8_t *bytes, size_t length)
{
    if (length >= 4 && length % 4 == 0 && address->s_addr == 0)
        memcpy(address, bytes, 4);
}

static void take_option(struct found *found, uint8_t code, const uint8_t *bytes, size_t length)
{
    switch (code) {
    case OPTION_TYPE:
        found->type = length == 1 && found->type == 0 ? bytes[0] : found->type;
        break;
    case OPTION_OVERLOAD:
        found->overload = length == 1 ? bytes[0] : 0;
        break;
    case OPTION_MASK:
        if (length == 4 && !found->has_mask) {
            found->has_mask = true;
            found->mask = load_u32(bytes);
        }
        break;
    case OPTION_ROUTER:
        take_address(&found->router, bytes, length);
        break;
    case OPTION_NAMESERVER:
        if (found->nameservers == NULL && length % 4 == 0) {
            found->nameservers = bytes;
            found->nameservers_length = length;
        }
        break;
    case OPTION_ROUTES:
        if (!found->has_routes) {
            found->has_routes = true;
            found->routes = bytes;
            found->routes_length = length;
        }
        break;
    case OPTION_SERVER:
        take_address(&found->server, bytes, length);
        break;
    case OPTION_LEASE:
        take_number(&found->lease_s, bytes, length);
        break;
    case OPTION_RENEW:
        take_number(&found->renew_s, bytes, length);
        break;
    case OPTION_REBIND:
        take_number(&found->rebind_s, bytes, length);
        break;
    default:
        break;
    }
}

/* False when an option reaches past the end. */
static bool read_options(struct found *found, const uint8_t *at, size_t left)
{
    while (left > 0 && *at != OPTION_END) {
        if (*at == OPTION_PAD) {
            at++;
            left--;
            continue;
        }
        if (left < 2 || at[1] > left - 2)
            return false;
        take_option(found, at[0], at + 2, at[1]);
        left -= 2u + at[1];
        at += 2u + at[1];
    }
    return true;
}

static bool read_mask(const struct found *found, uint32_t address, uint8_t *prefix)
{
    if (!found->has_mask) { /* as the address's class has it */
        *prefix = address < 0x80000000u ? 8 : address < 0xc0000000u ? 16 : 24;
        return true;
    }
    uint32_t host = ~found->mask;
    if (found->mask == 0 || (host & (host + 1)) != 0)
        return false;
    *prefix = 32;
    for (; host != 0; host >>= 1)
        (*prefix)--;
    return true;
}

/* Can an interface have it: no network's own, nobody's, nor everybody's. */
static bool is_host(uint32_t address, uint8_t prefix)
{
    uint32_t first = address >> 24, host = prefix == 32 ? 0 : address & (0xffffffffu >> prefix);
    if (first == 0 || first == 127 || first >= 224)
        return false;
    return prefix >= 31 || (host != 0 && host != 0xffffffffu >> prefix);
}

/* RFC 3442: the length of the prefix, as many bytes of it as that takes, the gateway. */
static void read_routes(const struct found *found, struct lease *lease)
{
    const uint8_t *at = found->routes;
    size_t left = found->routes_length;
    while (left > 0 && lease->route_count < ROUTES_MAX) {
        size_t bytes = ((size_t)at[0] + 7) / 8;
        if (at[0] > 32 || left < 1 + bytes + 4)
            return;
        struct lease_route *route = &lease->routes[lease->route_count++];
        *route = (struct lease_route){.prefix = at[0]};
        memcpy(&route->destination, at + 1, bytes);
        uint32_t mask = at[0] == 0 ? 0 : 0xffffffffu << (32 - at[0]);
        route->destination.s_addr &= htonl(mask);
        memcpy(&route->gateway, at + 1 + bytes, 4);
        at += 1 + bytes + 4;
        left -= 1 + bytes + 4;
    }
}

static bool fill_lease(const struct found *found, const uint8_t *packet, struct lease *lease)
{
    uint32_t address = load_u32(packet + 16);
    memcpy(&lease->address, packet + 16, 4);
    lease->server = found->server;
    if (!read_mask(found, address, &lease->prefix) || !is_host(address, lease->prefix) || found->server.s_addr == 0 || found->lease_s < LEASE_MIN_S)
        return false;
    lease->lease_s = found->lease_s;
    uint32_t half = lease->lease_s / 2, late = (uint32_t)((uint64_t)lease->lease_s * 7 / 8);
    lease->rebind_s = found->rebind_s > 1 && found->rebind_s < lease->lease_s ? found->rebind_s : late > 1 ? late : 1;
    lease->renew_s = found->renew_s > 0 && found->renew_s <= lease->rebind_s ? found->renew_s : half < lease->rebind_s ? half : lease->rebind_s;
    if (found->has_routes)
        read_routes(found, lease);
    else if (found->router.s_addr != 0 && is_host(ntohl(found->router.s_addr), 32))
        lease->routes[lease->route_count++] = (struct lease_route){.gateway = found->router};
    for (size_t at = 0; at + 4 <= found->nameservers_length && lease->nameserver_count < NAMESERVERS_MAX; at += 4) {
        uint32_t server = load_u32(found->nameservers + at);
        if (server >> 24 != 0 && server >> 24 < 224)
            memcpy(&lease->nameservers[lease->nameserver_count++], found->nameservers + at, 4);
    }
    return true;
}

bool dhcp_decode(const uint8_t *packet, size_t length, uint32_t transaction, const uint8_t mac[6], uint8_t *type, struct lease *lease)
{
    struct found found = {0};
    memset(lease, 0, sizeof *lease);
    if (length < HEAD_SIZE || packet[0] != 2 || packet[1] != 1 || packet[2] != 6 || load_u32(packet + 4) != transaction ||
        memcmp(packet + 28, mac, 6) != 0 || memcmp(packet + HEAD_SIZE - 4, COOKIE, 4) != 0 ||
        !read_options(&found, packet + HEAD_SIZE, length - HEAD_SIZE))
        return false;
    uint8_t overload = found.overload; /* what lies in there cannot ask for more of it */
    if ((overload & 1) != 0 && !read_options(&found, packet + FILE_AT, FILE_SIZE))
        return false;
    if ((overload & 2) != 0 && !read_options(&found, packet + SNAME_AT, SNAME_SIZE))
        return false;
    *type = found.type;
    if (found.type == DHCP_NAK) {
        lease->server = found.server;
        return true;
    }
    return (found.type == DHCP_OFFER || found.type == DHCP_ACK) && fill_lease(&found, packet, lease);
}
