#ifndef KESTREL_NETLINK_H
#define KESTREL_NETLINK_H

#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Requests to the kernel over one rtnetlink socket, each waited for. False always comes with errno set. */

enum { NETLINK_REQUEST_SIZE = 512 };

struct request {
    struct nlmsghdr head;
    uint8_t body[NETLINK_REQUEST_SIZE];
};

bool netlink_open(void);
void netlink_close(void);

/* Where the request's body of `body_size` bytes goes, all zeros. */
void *request_begin(struct request *request, uint16_t type, uint16_t flags, size_t body_size);
void request_add(struct request *request, uint16_t type, const void *value, size_t length);

/* Send and wait for the acknowledgement. */
bool request_perform(struct request *request);

/* Send a dump and call `see` with every answer. It must not perform requests of its own. */
bool request_dump(struct request *request, void (*see)(void *owner, const struct nlmsghdr *head), void *owner);

/* An attribute behind the body of `body_size` bytes, NULL when there is none. */
const struct rtattr *netlink_find(const struct nlmsghdr *head, size_t body_size, uint16_t type);
const struct rtattr *netlink_find_inside(const struct rtattr *attribute, uint16_t type);

#endif
