/* DHCP answers of any server: what is taken for a lease is one that an interface can have. */

#include "dhcp_packet.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint8_t MAC[6] = {2, 0, 0, 0, 0, 1};
    struct lease lease;
    uint8_t type = 0;
    uint8_t *own = fuzz_copy(bytes, size);
    bool good = dhcp_decode(own, size, 0x12345678, MAC, &type, &lease);
    free(own);
    if (!good)
        return 0;
    fuzz_must(type == DHCP_OFFER || type == DHCP_ACK || type == DHCP_NAK, "another type");
    fuzz_must(lease.route_count <= ROUTES_MAX && lease.nameserver_count <= NAMESERVERS_MAX, "more than there is room for");
    if (type == DHCP_NAK)
        return 0;
    uint32_t first = ntohl(lease.address.s_addr) >> 24;
    fuzz_must(first != 0 && first != 127 && first < 224 && lease.prefix >= 1 && lease.prefix <= 32, "no address for an interface");
    fuzz_must(lease.renew_s >= 1 && lease.renew_s <= lease.rebind_s && lease.rebind_s <= lease.lease_s, "times out of order");
    for (size_t i = 0; i < lease.route_count; i++)
        fuzz_must(lease.routes[i].prefix <= 32, "a prefix beyond 32");
    return 0;
}
