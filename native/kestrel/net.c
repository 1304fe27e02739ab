#include "net.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { REQUEST_SIZE = 512, ANSWER_SIZE = 32768, ANSWER_LIMIT_S = 2 };

struct request {
    struct nlmsghdr head;
    uint8_t body[REQUEST_SIZE];
};

static int netlink_fd = -1;
static uint32_t sequence;

static void *begin_request(struct request *request, uint16_t type, uint16_t flags, size_t body_size)
{
    memset(request, 0, sizeof *request);
    request->head.nlmsg_type = type;
    request->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    request->head.nlmsg_seq = ++sequence;
    request->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body_size);
    return NLMSG_DATA(&request->head);
}

static void add_attribute(struct request *request, uint16_t type, const void *value, size_t length)
{
    struct rtattr *attribute = (struct rtattr *)(void *)((char *)&request->head + NLMSG_ALIGN(request->head.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(length);
    memcpy(RTA_DATA(attribute), value, length);
    request->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(request->head.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
}

static bool send_request(const struct request *request)
{
    return send(netlink_fd, request, request->head.nlmsg_len, 0) == (ssize_t)request->head.nlmsg_len;
}

/* Send and wait for the acknowledgement. */
static bool perform(struct request *request)
{
    static char answer[ANSWER_SIZE];
    request->head.nlmsg_flags |= NLM_F_ACK;
    if (!send_request(request))
        return false;
    for (;;) {
        ssize_t length = recv(netlink_fd, answer, sizeof answer, 0);
        if (length < 0)
            return false;
        const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer;
        if (!NLMSG_OK(head, (size_t)length) || head->nlmsg_seq != request->head.nlmsg_seq || head->nlmsg_type != NLMSG_ERROR)
            continue;
        const struct nlmsgerr *error = NLMSG_DATA(head);
        errno = -error->error;
        return error->error == 0;
    }
}

static bool link_matches(const struct nlmsghdr *head, const uint8_t mac[6])
{
    const struct ifinfomsg *link = NLMSG_DATA(head);
    const char *start = (const char *)head;
    for (size_t at = NLMSG_SPACE(sizeof *link); at + RTA_LENGTH(0) <= head->nlmsg_len;) {
        const struct rtattr *attribute = (const struct rtattr *)(const void *)(start + at);
        if (attribute->rta_len < RTA_LENGTH(0) || at + attribute->rta_len > head->nlmsg_len)
            break;
        if (attribute->rta_type == IFLA_ADDRESS && attribute->rta_len == RTA_LENGTH(6))
            return memcmp(RTA_DATA(attribute), mac, 6) == 0;
        at += RTA_ALIGN(attribute->rta_len);
    }
    return false;
}

/* The index of the link with this address, 0 when there is none. */
static int find_link(const uint8_t mac[6])
{
    static char answer[ANSWER_SIZE];
    struct request request;
    struct ifinfomsg *all = begin_request(&request, RTM_GETLINK, NLM_F_DUMP, sizeof *all);
    all->ifi_family = AF_UNSPEC;
    if (!send_request(&request))
        return 0;
    int index = 0;
    for (;;) {
        ssize_t length = recv(netlink_fd, answer, sizeof answer, 0);
        if (length < 0)
            return index;
        size_t left = (size_t)length;
        for (const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
            if (head->nlmsg_seq != request.head.nlmsg_seq)
                continue;
            if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR)
                return index;
            const struct ifinfomsg *link = NLMSG_DATA(head);
            if (index == 0 && link_matches(head, mac))
                index = link->ifi_index;
        }
    }
}

static bool change_link(int index, const char *name, uint32_t mtu, bool up)
{
    struct request request;
    struct ifinfomsg *link = begin_request(&request, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = up ? IFF_UP : 0;
    link->ifi_change = IFF_UP;
    if (name != NULL)
        add_attribute(&request, IFLA_IFNAME, name, strlen(name) + 1);
    if (mtu != 0)
        add_attribute(&request, IFLA_MTU, &mtu, sizeof mtu);
    return perform(&request);
}

static bool add_address(int index, const struct interface *interface)
{
    struct request request;
    struct ifaddrmsg *address = begin_request(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof *address);
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = interface->prefix;
    address->ifa_index = (uint32_t)index;
    add_attribute(&request, IFA_LOCAL, &interface->address, sizeof interface->address);
    add_attribute(&request, IFA_ADDRESS, &interface->address, sizeof interface->address);
    if (interface->prefix > 0 && interface->prefix < 31) {
        uint32_t broadcast = interface->address.s_addr | htonl(0xffffffffu >> interface->prefix);
        add_attribute(&request, IFA_BROADCAST, &broadcast, sizeof broadcast);
    }
    return perform(&request);
}

static bool add_default_route(int index, const struct in_addr *gateway)
{
    struct request request;
    struct rtmsg *route = begin_request(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof *route);
    route->rtm_family = AF_INET;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    uint32_t out = (uint32_t)index;
    add_attribute(&request, RTA_GATEWAY, gateway, sizeof *gateway);
    add_attribute(&request, RTA_OIF, &out, sizeof out);
    return perform(&request);
}

static bool apply_interface(const struct interface *interface, const char **what)
{
    *what = "no such interface";
    int index = find_link(interface->mac);
    if (index == 0) {
        errno = ENODEV;
        return false;
    }
    *what = "cannot be named";
    if (!change_link(index, interface->name, 0, false))
        return false;
    *what = "cannot be brought up";
    if (!change_link(index, NULL, interface->mtu, true))
        return false;
    *what = "cannot get its address";
    if (interface->has_address && !add_address(index, interface))
        return false;
    *what = "cannot get its default route";
    return !interface->has_gateway || add_default_route(index, &interface->gateway);
}

static bool apply_all(const struct config *config, char *text, size_t size)
{
    if (!change_link((int)if_nametoindex("lo"), NULL, 0, true)) {
        snprintf(text, size, "network: lo cannot be brought up: %s", strerror(errno));
        return false;
    }
    for (size_t i = 0; i < config->interface_count; i++) {
        const char *what;
        if (!apply_interface(&config->interfaces[i], &what)) {
            snprintf(text, size, "network: %s %s: %s", config->interfaces[i].name, what, strerror(errno));
            return false;
        }
    }
    return true;
}

bool net_apply(const struct config *config, char *text, size_t size)
{
    netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct timeval limit = {.tv_sec = ANSWER_LIMIT_S};
    if (netlink_fd < 0 || setsockopt(netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) {
        snprintf(text, size, "network: no netlink: %s", strerror(errno));
        return false;
    }
    bool done = apply_all(config, text, size);
    close(netlink_fd);
    return done;
}
