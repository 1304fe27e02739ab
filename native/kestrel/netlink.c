#include "netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_SIZE = 32768, ANSWER_LIMIT_S = 2 };

static int netlink_fd = -1;
static uint32_t sequence;
static char answer[ANSWER_SIZE];

bool netlink_open(void)
{
    netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct timeval limit = {.tv_sec = ANSWER_LIMIT_S};
    return netlink_fd >= 0 && setsockopt(netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0;
}

void netlink_close(void)
{
    if (netlink_fd >= 0)
        close(netlink_fd);
    netlink_fd = -1;
}

void *request_begin(struct request *request, uint16_t type, uint16_t flags, size_t body_size)
{
    memset(request, 0, sizeof *request);
    request->head.nlmsg_type = type;
    request->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    request->head.nlmsg_seq = ++sequence;
    request->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body_size);
    return NLMSG_DATA(&request->head);
}

void request_add(struct request *request, uint16_t type, const void *value, size_t length)
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

bool request_perform(struct request *request)
{
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

bool request_dump(struct request *request, void (*see)(void *owner, const struct nlmsghdr *head), void *owner)
{
    request->head.nlmsg_flags |= NLM_F_DUMP;
    if (!send_request(request))
        return false;
    for (;;) {
        ssize_t length = recv(netlink_fd, answer, sizeof answer, 0);
        if (length < 0)
            return false;
        size_t left = (size_t)length;
        for (const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)answer; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
            if (head->nlmsg_seq != request->head.nlmsg_seq)
                continue;
            if (head->nlmsg_type == NLMSG_DONE)
                return true;
            if (head->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *error = NLMSG_DATA(head);
                errno = -error->error;
                return false;
            }
            see(owner, head);
        }
    }
}

static const struct rtattr *find(const char *at, size_t left, uint16_t type)
{
    while (left >= RTA_LENGTH(0)) {
        const struct rtattr *attribute = (const struct rtattr *)(const void *)at;
        if (attribute->rta_len < RTA_LENGTH(0) || attribute->rta_len > left)
            break;
        if (attribute->rta_type == type)
            return attribute;
        size_t size = RTA_ALIGN(attribute->rta_len);
        at += size;
        left = left > size ? left - size : 0;
    }
    return NULL;
}

const struct rtattr *netlink_find(const struct nlmsghdr *head, size_t body_size, uint16_t type)
{
    size_t start = NLMSG_SPACE(body_size);
    return head->nlmsg_len < start ? NULL : find((const char *)head + start, head->nlmsg_len - start, type);
}

const struct rtattr *netlink_find_inside(const struct rtattr *attribute, uint16_t type)
{
    return attribute == NULL ? NULL : find(RTA_DATA(attribute), RTA_PAYLOAD(attribute), type);
}
