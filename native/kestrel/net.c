#include "net.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "netlink.h"

/* More than these are not looked at: a guest makes links of its own, as many as it likes. */
enum { LINKS_MAX = 64, ADDRESSES_MAX = 64 };

struct link {
    int index;
    bool own; /* made in the guest: lo, a bridge, a tunnel */
    uint8_t mac[6];
    uint8_t device_mac[6]; /* what the driver found */
};

static struct link links[LINKS_MAX];
static size_t link_count;

static void copy_mac(const struct nlmsghdr *head, uint16_t type, uint8_t mac[6])
{
    const struct rtattr *attribute = netlink_find(head, sizeof(struct ifinfomsg), type);
    if (attribute != NULL && attribute->rta_len == RTA_LENGTH(6))
        memcpy(mac, RTA_DATA(attribute), 6);
}

/* Links that the guest made itself have a kind; devices have none, whatever they are made a part of. */
static bool has_kind(const struct nlmsghdr *head)
{
    return netlink_find_inside(netlink_find(head, sizeof(struct ifinfomsg), IFLA_LINKINFO), IFLA_INFO_KIND) != NULL;
}

static void see_link(void *owner, const struct nlmsghdr *head)
{
    (void)owner;
    const struct ifinfomsg *seen = NLMSG_DATA(head);
    if (link_count == LINKS_MAX)
        return;
    struct link *link = &links[link_count++];
    *link = (struct link){.index = seen->ifi_index};
    link->own = (seen->ifi_flags & IFF_LOOPBACK) != 0 || has_kind(head);
    copy_mac(head, IFLA_ADDRESS, link->mac);
    copy_mac(head, IFLA_PERM_ADDRESS, link->device_mac);
}

static bool list_links(void)
{
    struct request request;
    struct ifinfomsg *all = request_begin(&request, RTM_GETLINK, 0, sizeof *all);
    all->ifi_family = AF_UNSPEC;
    link_count = 0;
    return request_dump(&request, see_link, NULL);
}

/* By its address; else by the one its device was found with, which another link may meanwhile have been given. */
static const struct link *find_link(const struct interface *interface)
{
    for (size_t i = 0; i < link_count; i++)
        if (!links[i].own && memcmp(links[i].mac, interface->mac, 6) == 0)
            return &links[i];
    for (size_t i = 0; i < link_count && interface->has_device_mac; i++)
        if (!links[i].own && memcmp(links[i].mac, interface->device_mac, 6) == 0)
            return &links[i];
    for (size_t i = 0; i < link_count && interface->has_device_mac; i++)
        if (!links[i].own && memcmp(links[i].device_mac, interface->device_mac, 6) == 0)
            return &links[i];
    return NULL;
}

static bool set_up(int index, uint32_t mtu, bool up)
{
    struct request request;
    struct ifinfomsg *link = request_begin(&request, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = up ? IFF_UP : 0;
    link->ifi_change = IFF_UP;
    if (mtu != 0)
        request_add(&request, IFLA_MTU, &mtu, sizeof mtu);
    return request_perform(&request);
}

/* `mac` may be NULL. The link must be down. */
static bool set_name(int index, const char *name, const uint8_t mac[6])
{
    struct request request;
    struct ifinfomsg *link = request_begin(&request, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    request_add(&request, IFLA_IFNAME, name, strlen(name) + 1);
    if (mac != NULL)
        request_add(&request, IFLA_ADDRESS, mac, 6);
    return request_perform(&request);
}

static bool add_address(int index, struct in_addr local, uint8_t prefix)
{
    struct request request;
    struct ifaddrmsg *address = request_begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof *address);
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = prefix;
    address->ifa_index = (uint32_t)index;
    request_add(&request, IFA_LOCAL, &local, sizeof local);
    request_add(&request, IFA_ADDRESS, &local, sizeof local);
    if (prefix > 0 && prefix < 31) {
        uint32_t broadcast = local.s_addr | htonl(0xffffffffu >> prefix);
        request_add(&request, IFA_BROADCAST, &broadcast, sizeof broadcast);
    }
    return request_perform(&request);
}

static bool remove_address(int index, struct in_addr local, uint8_t prefix)
{
    struct request request;
    struct ifaddrmsg *address = request_begin(&request, RTM_DELADDR, 0, sizeof *address);
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = prefix;
    address->ifa_index = (uint32_t)index;
    request_add(&request, IFA_LOCAL, &local, sizeof local);
    return request_perform(&request) || errno == EADDRNOTAVAIL; /* it went together with another */
}

/* `type` is RTM_NEWROUTE or RTM_DELROUTE. A gateway beyond the interface's own network is reached on the link all the same. */
static bool change_route(uint16_t type, int index, const struct lease_route *wanted, bool gateway_is_near)
{
    struct request request;
    uint16_t flags = type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_REPLACE : 0;
    struct rtmsg *route = request_begin(&request, type, flags, sizeof *route);
    bool has_gateway = wanted->gateway.s_addr != 0;
    uint32_t out = (uint32_t)index;
    route->rtm_family = AF_INET;
    route->rtm_dst_len = wanted->prefix;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = has_gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    route->rtm_type = RTN_UNICAST;
    route->rtm_flags = has_gateway && !gateway_is_near ? RTNH_F_ONLINK : 0;
    if (wanted->prefix > 0)
        request_add(&request, RTA_DST, &wanted->destination, sizeof wanted->destination);
    if (has_gateway)
        request_add(&request, RTA_GATEWAY, &wanted->gateway, sizeof wanted->gateway);
    request_add(&request, RTA_OIF, &out, sizeof out);
    return request_perform(&request);
}

struct addresses {
    int index;
    size_t count;
    struct {
        struct in_addr local;
        uint8_t prefix;
    } list[ADDRESSES_MAX];
};

static void see_address(void *owner, const struct nlmsghdr *head)
{
    struct addresses *addresses = owner;
    const struct ifaddrmsg *seen = NLMSG_DATA(head);
    const struct rtattr *local = netlink_find(head, sizeof *seen, IFA_LOCAL);
    if ((int)seen->ifa_index != addresses->index || local == NULL || local->rta_len != RTA_LENGTH(4) || addresses->count == ADDRESSES_MAX)
        return;
    memcpy(&addresses->list[addresses->count].local, RTA_DATA(local), 4);
    addresses->list[addresses->count++].prefix = seen->ifa_prefixlen;
}

/* Its routes went when it went down. */
static bool remove_addresses(int index)
{
    struct addresses addresses = {.index = index};
    struct request request;
    struct ifaddrmsg *all = request_begin(&request, RTM_GETADDR, 0, sizeof *all);
    all->ifa_family = AF_INET;
    if (!request_dump(&request, see_address, &addresses))
        return false;
    for (size_t i = 0; i < addresses.count; i++)
        if (!remove_address(index, addresses.list[i].local, addresses.list[i].prefix))
            return false;
    return true;
}

/* The kernel finds cards in an order of its own: who has another's name gives it up, and gets its own when its turn comes. */
static bool clear_name(const char *name, int index)
{
    unsigned taken = if_nametoindex(name);
    char aside[IF_NAMESIZE];
    if (taken == 0 || (int)taken == index)
        return true;
    snprintf(aside, sizeof aside, "card%u", taken);
    return set_up((int)taken, 0, false) && set_name((int)taken, aside, NULL);
}

static bool apply_interface(const struct interface *interface, bool again, const char **what)
{
    *what = "no such interface";
    const struct link *link = find_link(interface);
    if (link == NULL) {
        errno = ENODEV;
        return false;
    }
    int index = link->index;
    bool renumbered = memcmp(link->mac, interface->mac, 6) != 0;
    *what = "cannot be taken down";
    if ((again || renumbered) && !set_up(index, 0, false))
        return false;
    *what = "cannot lose its addresses";
    if (again && !remove_addresses(index))
        return false;
    *what = "cannot be named";
    if (!clear_name(interface->name, index) || !set_name(index, interface->name, renumbered ? interface->mac : NULL))
        return false;
    *what = "cannot be brought up";
    if (!set_up(index, interface->mtu, true))
        return false;
    *what = "cannot get its address";
    if (interface->has_address && !add_address(index, interface->address, interface->prefix))
        return false;
    *what = "cannot get its default route";
    return !interface->has_gateway || change_route(RTM_NEWROUTE, index, &(struct lease_route){.gateway = interface->gateway}, true);
}

/* Links of an earlier identity that this one does not have. */
static bool retire_others(const struct config *config)
{
    for (size_t i = 0; i < link_count; i++) {
        bool wanted = links[i].own;
        for (size_t n = 0; n < config->interface_count; n++)
            wanted = wanted || find_link(&config->interfaces[n]) == &links[i];
        if (!wanted && (!set_up(links[i].index, 0, false) || !remove_addresses(links[i].index)))
            return false;
    }
    return true;
}

static bool apply_all(const struct config *config, bool again, char *text, size_t size)
{
    if (!set_up((int)if_nametoindex("lo"), 0, true)) {
        snprintf(text, size, "network: lo cannot be brought up: %s", strerror(errno));
        return false;
    }
    if ((config->interface_count > 0 || again) && !list_links()) {
        snprintf(text, size, "network: the interfaces cannot be listed: %s", strerror(errno));
        return false;
    }
    if (again && !retire_others(config)) {
        snprintf(text, size, "network: an interface cannot be taken down: %s", strerror(errno));
        return false;
    }
    for (size_t i = 0; i < config->interface_count; i++) {
        const char *what;
        if (!apply_interface(&config->interfaces[i], again, &what)) {
            snprintf(text, size, "network: %s %s: %s", config->interfaces[i].name, what, strerror(errno));
            return false;
        }
    }
    return true;
}

static bool apply(const struct config *config, bool again, char *text, size_t size)
{
    bool done = netlink_open();
    if (done)
        done = apply_all(config, again, text, size);
    else
        snprintf(text, size, "network: no netlink: %s", strerror(errno));
    netlink_close();
    return done;
}

bool net_apply(const struct config *config, char *text, size_t size)
{
    return apply(config, false, text, size);
}

bool net_renew(const struct config *config, char *text, size_t size)
{
    return apply(config, true, text, size);
}

static bool is_near(const struct lease *lease, struct in_addr gateway)
{
    uint32_t mask = lease->prefix == 0 ? 0 : htonl(0xffffffffu << (32 - lease->prefix));
    return ((gateway.s_addr ^ lease->address.s_addr) & mask) == 0;
}

static bool has_route(const struct lease *lease, const struct lease_route *route)
{
    for (size_t i = 0; lease != NULL && i < lease->route_count; i++)
        if (memcmp(&lease->routes[i], route, sizeof *route) == 0)
            return true;
    return false;
}

static bool take_lease(int index, const struct lease *before, const struct lease *now, const char **what)
{
    bool stays = before != NULL && now != NULL && before->address.s_addr == now->address.s_addr && before->prefix == now->prefix;
    *what = "cannot lose its address"; /* its routes go with it */
    if (before != NULL && !stays && !remove_address(index, before->address, before->prefix))
        return false;
    for (size_t i = 0; stays && i < before->route_count; i++)
        if (!has_route(now, &before->routes[i]))
            change_route(RTM_DELROUTE, index, &before->routes[i], is_near(before, before->routes[i].gateway));
    if (now == NULL)
        return true;
    *what = "cannot get its address";
    if (!add_address(index, now->address, now->prefix))
        return false;
    *what = "cannot get its routes";
    bool done = true;
    for (size_t i = 0; i < now->route_count; i++)
        done = change_route(RTM_NEWROUTE, index, &now->routes[i], is_near(now, now->routes[i].gateway)) && done;
    return done;
}

bool net_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size)
{
    const char *what = "no netlink";
    bool done = netlink_open() && take_lease(index, before, now, &what);
    if (!done)
        snprintf(text, size, "%s: %s", what, strerror(errno));
    netlink_close();
    return done;
}
