#include "dhcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "dhcp_packet.h"
#include "loop.h"
#include "machine.h"

enum {
    FIRST_WAIT_MS = 1000,
    LONGEST_WAIT_MS = 64000,
    REQUESTS_MAX = 4,
    RETRY_LEAST_MS = 10000,
    READS_MAX = 8,
    LONGEST_TIMER_MS = 3600000, /* then it is looked at again: a lease may last for years */
};

/* RFC 2131, figure 5. There is no INIT-REBOOT: a guest remembers no lease. */
enum state { STATE_SELECTING, STATE_REQUESTING, STATE_BOUND, STATE_RENEWING, STATE_REBINDING };

struct client {
    const struct interface *interface;
    int index;
    enum state state;
    uint32_t transaction;
    uint64_t began_ms;
    uint64_t asked_ms; /* when what was acknowledged was asked for: its times count from there */
    uint32_t wait_ms;
    uint32_t requests;
    bool has_lease;
    struct lease lease;
    struct lease offer;
    uint64_t renew_ms; /* uptime, as the two below */
    uint64_t rebind_ms;
    uint64_t end_ms;
    struct watch socket;
    struct timer timer;
};

static const char *hostname;
static struct client clients[INTERFACES_MAX];
static size_t client_count;

static uint32_t draw(void)
{
    uint32_t number;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number)
        number = (uint32_t)(uptime_ms() * 2654435761u);
    return number;
}

/* From nobody to everybody: only a packet socket sends from 0.0.0.0 whatever other interfaces have. */
static bool send_raw(const struct client *client, const uint8_t *packet, size_t length)
{
    uint8_t frame[DHCP_FRAME_MAX];
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = client->index, .sll_halen = 6,
                             .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    size_t size = dhcp_wrap(packet, length, frame);
    bool sent = sendto(fd, frame, size, 0, (const struct sockaddr *)&to, sizeof to) == (ssize_t)size;
    close(fd);
    return sent;
}

static void tell(struct client *client, uint8_t type)
{
    uint8_t packet[DHCP_PACKET_MAX];
    bool owns = client->state >= STATE_BOUND;
    uint64_t seconds = (uptime_ms() - client->began_ms) / 1000;
    struct dhcp_question question = {
        .type = type, .transaction = client->transaction, .seconds = seconds > 65535 ? 65535 : (uint16_t)seconds,
        .mac = client->interface->mac, .hostname = hostname,
        .own = owns ? client->lease.address : (struct in_addr){0},
        .requested = type == DHCP_REQUEST && !owns ? client->offer.address : (struct in_addr){0},
        .server = type == DHCP_REQUEST && !owns ? client->offer.server : (struct in_addr){0},
    };
    size_t length = dhcp_encode(&question, packet);
    client->asked_ms = uptime_ms();
    if (!owns && send_raw(client, packet, length))
        return;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(DHCP_SERVER_PORT),
                             .sin_addr.s_addr = client->state == STATE_RENEWING ? client->lease.server.s_addr : htonl(INADDR_BROADCAST)};
    /* What cannot be sent now is as good as lost, and sent again as that is. */
    ssize_t ignored = sendto(client->socket.fd, packet, length, 0, (const struct sockaddr *)&to, sizeof to);
    (void)ignored;
}

/* What it has is taken away; `now` is NULL when there is nothing in its place. */
static void take(struct client *client, const struct lease *now)
{
    char text[160];
    bool same = client->has_lease && now != NULL && now->address.s_addr == client->lease.address.s_addr && now->prefix == client->lease.prefix;
    struct lease before = client->lease;
    if (!client->has_lease && now == NULL)
        return;
    if (!machine_take_lease(client->index, client->has_lease ? &before : NULL, now, text, sizeof text))
        console_say("dhcp: %s: %s", client->interface->name, text);
    client->has_lease = now != NULL;
    if (now != NULL)
        client->lease = *now;
    if (!same || memcmp(&before, now, sizeof before) != 0)
        control_network_changed();
}

static uint64_t after_s(const struct client *client, uint32_t seconds)
{
    return client->asked_ms + 1000ull * seconds;
}

/* Towards `deadline_ms`, half of the way at a time, as RFC 2131 has it in 4.4.5. */
static void wait_until(struct client *client, uint64_t deadline_ms)
{
    uint64_t now_ms = uptime_ms();
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    timer_set(&client->timer, left_ms / 2 >= RETRY_LEAST_MS ? left_ms / 2 : left_ms);
}

static void expire(struct client *client, const char *why)
{
    console_say("dhcp: %s: %s", client->interface->name, why);
    take(client, NULL);
}

static void wait_for_renewal(struct client *client)
{
    uint64_t now_ms = uptime_ms();
    uint64_t left_ms = client->renew_ms > now_ms ? client->renew_ms - now_ms : 0;
    timer_set(&client->timer, left_ms < LONGEST_TIMER_MS ? left_ms : LONGEST_TIMER_MS);
}

static void be_bound(struct client *client, const struct lease *lease)
{
    take(client, lease);
    client->state = STATE_BOUND;
    client->wait_ms = FIRST_WAIT_MS;
    bool for_ever = lease->lease_s == UINT32_MAX;
    client->renew_ms = for_ever ? UINT64_MAX : after_s(client, lease->renew_s);
    client->rebind_ms = for_ever ? UINT64_MAX : after_s(client, lease->rebind_s);
    client->end_ms = for_ever ? UINT64_MAX : after_s(client, lease->lease_s);
    wait_for_renewal(client);
}

static void request(struct client *client)
{
    client->state = STATE_REQUESTING;
    client->requests++;
    tell(client, DHCP_REQUEST);
    timer_set(&client->timer, (uint64_t)FIRST_WAIT_MS << (client->requests - 1));
}

/* Less and less often, a little off the beat so that guests of one host do not ask together. */
static void discover_later(struct client *client)
{
    uint32_t wait_ms = client->wait_ms;
    client->state = STATE_SELECTING;
    client->wait_ms = wait_ms * 2 < LONGEST_WAIT_MS ? wait_ms * 2 : LONGEST_WAIT_MS;
    timer_set(&client->timer, wait_ms + draw() % (wait_ms / 4 + 1));
}

static void discover(struct client *client)
{
    client->state = STATE_SELECTING;
    client->transaction = draw();
    client->requests = 0;
    tell(client, DHCP_DISCOVER);
    discover_later(client);
}

static void go_on(struct timer *timer)
{
    struct client *client = timer->owner;
    uint64_t now_ms = uptime_ms();
    if (client->state == STATE_SELECTING || (client->state == STATE_REQUESTING && client->requests >= REQUESTS_MAX)) {
        discover(client);
    } else if (client->state == STATE_REQUESTING) {
        request(client);
    } else if (now_ms >= client->end_ms) {
        expire(client, "its lease ran out");
        client->began_ms = now_ms;
        discover(client);
    } else if (now_ms >= client->rebind_ms) {
        client->state = STATE_REBINDING;
        tell(client, DHCP_REQUEST);
        wait_until(client, client->end_ms);
    } else if (now_ms >= client->renew_ms || client->state == STATE_RENEWING) {
        if (client->state == STATE_BOUND) {
            client->transaction = draw();
            client->began_ms = now_ms;
        }
        client->state = STATE_RENEWING;
        tell(client, DHCP_REQUEST);
        wait_until(client, client->rebind_ms);
    } else {
        wait_for_renewal(client);
    }
}

static void refuse(struct client *client)
{
    if (client->has_lease)
        expire(client, "the network took its address back");
    discover_later(client);
}

static void hear(struct client *client, const uint8_t *packet, size_t length)
{
    struct lease lease;
    uint8_t type;
    if (client->state == STATE_BOUND || !dhcp_decode(packet, length, client->transaction, client->interface->mac, &type, &lease))
        return;
    if (type == DHCP_OFFER && client->state == STATE_SELECTING) {
        client->offer = lease;
        request(client);
    } else if (type == DHCP_ACK && client->state != STATE_SELECTING) {
        be_bound(client, &lease);
    } else if (type == DHCP_NAK && client->state != STATE_SELECTING) {
        refuse(client);
    }
}

static void on_socket(struct watch *watch, uint32_t events)
{
    uint8_t packet[DHCP_ANSWER_MAX];
    (void)events;
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t length = recv(watch->fd, packet, sizeof packet, MSG_TRUNC);
        if (length < 0 && errno != EINTR)
            return;
        if (length >= 0 && (size_t)length <= sizeof packet)
            hear(watch->owner, packet, (size_t)length);
    }
}

static bool open_socket(struct client *client)
{
    static const int ON = 1;
    const char *name = client->interface->name;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(DHCP_CLIENT_PORT)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    client->socket = (struct watch){.fd = fd, .ready = on_socket, .owner = client};
    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name) + 1) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &ON, sizeof ON) == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &ON, sizeof ON) == 0 &&
           bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && loop_watch(&client->socket, EPOLLIN);
}

void dhcp_start(const struct config *config)
{
    dhcp_stop();
    hostname = config->hostname;
    for (size_t i = 0; i < config->interface_count; i++) {
        if (!config->interfaces[i].dhcp)
            continue;
        struct client *client = &clients[client_count++];
        *client = (struct client){.interface = &config->interfaces[i], .index = (int)if_nametoindex(config->interfaces[i].name),
                                  .began_ms = uptime_ms(), .wait_ms = FIRST_WAIT_MS, .timer = {.fire = go_on, .owner = client}};
        if (open_socket(client))
            discover(client);
        else
            console_say("dhcp: %s: %s", client->interface->name, strerror(errno));
    }
    if (client_count > 0)
        control_network_changed();
}

void dhcp_stop(void)
{
    for (size_t i = 0; i < client_count; i++) {
        loop_close(&clients[i].socket);
        timer_stop(&clients[i].timer);
    }
    client_count = 0;
}

void dhcp_hurry(void)
{
    for (size_t i = 0; i < client_count; i++) {
        if (clients[i].state == STATE_BOUND)
            clients[i].renew_ms = 0;
        if (clients[i].timer.armed)
            timer_set(&clients[i].timer, 0);
    }
}

static void write_address(struct writer *writer, struct in_addr address)
{
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof text);
    write_text(writer, text);
}

static void describe_lease(struct writer *writer, const struct lease *lease)
{
    write_address(writer, lease->address);
    write_text(writer, "/");
    write_integer(writer, lease->prefix);
    write_text(writer, "\",\"gateway\":\"");
    for (size_t i = 0; i < lease->route_count; i++) {
        if (lease->routes[i].prefix == 0 && lease->routes[i].gateway.s_addr != 0) {
            write_address(writer, lease->routes[i].gateway);
            break;
        }
    }
    write_text(writer, "\",\"nameservers\":[");
    for (size_t i = 0; i < lease->nameserver_count; i++) {
        write_text(writer, i == 0 ? "\"" : ",\"");
        write_address(writer, lease->nameservers[i]);
        write_text(writer, "\"");
    }
    write_text(writer, "],\"lease_s\":");
    write_integer(writer, lease->lease_s);
}

bool dhcp_describe(struct writer *writer)
{
    if (client_count == 0)
        return false;
    write_text(writer, "\"interfaces\":[");
    for (size_t i = 0; i < client_count; i++) {
        const uint8_t *mac = clients[i].interface->mac;
        char text[18];
        snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        write_text(writer, i == 0 ? "{\"name\":" : ",{\"name\":");
        write_quoted(writer, clients[i].interface->name);
        write_text(writer, ",\"mac\":");
        write_quoted(writer, text);
        write_text(writer, ",\"source\":\"dhcp\",\"address\":\"");
        if (clients[i].has_lease)
            describe_lease(writer, &clients[i].lease);
        else
            write_text(writer, "\",\"gateway\":\"\",\"nameservers\":[]");
        write_text(writer, "}");
    }
    write_text(writer, "]");
    return true;
}
