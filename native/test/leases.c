/* DHCP messages, as a server that means well and one that does not write them. */

#include "leases.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dhcp_packet.h"
#include "frame.h"

enum { TRANSACTION = 0x12345678, HEAD = 240, ANSWER_SIZE = 1500 };

static const uint8_t MAC[6] = {2, 0, 0, 0, 0, 1};

struct answer {
    size_t length;
    uint8_t bytes[ANSWER_SIZE];
};

static void put(struct answer *answer, uint8_t code, const void *bytes, size_t length)
{
    answer->bytes[answer->length++] = code;
    answer->bytes[answer->length++] = (uint8_t)length;
    memcpy(answer->bytes + answer->length, bytes, length);
    answer->length += length;
}

static void put_text(struct answer *answer, uint8_t code, const char *address)
{
    uint8_t bytes[4];
    inet_pton(AF_INET, address, bytes);
    put(answer, code, bytes, 4);
}

static void put_seconds(struct answer *answer, uint8_t code, uint32_t seconds)
{
    uint8_t bytes[4];
    store_u32(bytes, seconds);
    put(answer, code, bytes, 4);
}

static struct answer begin(uint8_t type, const char *address)
{
    struct answer answer = {.length = HEAD, .bytes = {2, 1, 6}};
    store_u32(answer.bytes + 4, TRANSACTION);
    inet_pton(AF_INET, address, answer.bytes + 16);
    memcpy(answer.bytes + 28, MAC, 6);
    memcpy(answer.bytes + HEAD - 4, "\x63\x82\x53\x63", 4);
    put(&answer, 53, &type, 1);
    return answer;
}

static struct answer usual(uint8_t type, const char *address, const char *mask)
{
    struct answer answer = begin(type, address);
    put_text(&answer, 54, "10.0.0.1");
    put_seconds(&answer, 51, 3600);
    if (mask != NULL)
        put_text(&answer, 1, mask);
    return answer;
}

static bool decode(const struct answer *answer, uint8_t *type, struct lease *lease)
{
    uint8_t *own = copy(answer->bytes, answer->length);
    bool good = dhcp_decode(own, answer->length, TRANSACTION, MAC, type, lease);
    free(own);
    return good;
}

static void expect(const struct answer *answer, bool good, const char *name)
{
    struct lease lease;
    uint8_t type;
    check(decode(answer, &type, &lease) == good, "dhcp", name, good ? "accepted" : "refused");
}

static void test_good(void)
{
    struct answer answer = usual(DHCP_ACK, "10.0.0.9", "255.255.255.0");
    struct lease lease;
    uint8_t type;
    put_text(&answer, 3, "10.0.0.1");
    put(&answer, 6, "\x0a\0\0\x01\x08\x08\x08\x08", 8);
    check(decode(&answer, &type, &lease) && type == DHCP_ACK, "dhcp", "usual", "accepted");
    check(lease.prefix == 24 && lease.lease_s == 3600 && lease.renew_s == 1800 && lease.rebind_s == 3150, "dhcp", "usual", "times");
    check(lease.route_count == 1 && lease.routes[0].prefix == 0 && lease.routes[0].gateway.s_addr == inet_addr("10.0.0.1"), "dhcp", "usual", "route");
    check(lease.nameserver_count == 2 && lease.nameservers[1].s_addr == inet_addr("8.8.8.8"), "dhcp", "usual", "name servers");

    put(&answer, 121, "\x18\xc0\xa8\x05\x0a\0\0\xfe" "\0\x0a\0\0\xfd", 13);
    check(decode(&answer, &type, &lease) && lease.route_count == 2, "dhcp", "classless routes", "they count in place of the router");
    check(lease.routes[0].prefix == 24 && lease.routes[0].destination.s_addr == inet_addr("192.168.5.0"), "dhcp", "classless routes", "destination");
    check(lease.routes[1].prefix == 0 && lease.routes[1].gateway.s_addr == inet_addr("10.0.0.253"), "dhcp", "classless routes", "default");

    put_seconds(&answer, 58, 100);
    put_seconds(&answer, 59, 200);
    check(decode(&answer, &type, &lease) && lease.renew_s == 100 && lease.rebind_s == 200, "dhcp", "own times", "as told");

    answer = begin(DHCP_NAK, "0.0.0.0");
    check(decode(&answer, &type, &lease) && type == DHCP_NAK, "dhcp", "refusal", "accepted");

    answer = usual(DHCP_OFFER, "10.0.0.9", "255.255.255.0");
    put(&answer, 52, "\1", 1);
    memcpy(answer.bytes + 108, "\3\4\x0a\0\0\1\xff", 7);
    check(decode(&answer, &type, &lease) && lease.route_count == 1, "dhcp", "overload", "the file's place is read");
}

static void test_bad(void)
{
    static const struct {
        const char *name, *address, *mask;
    } ADDRESSES[] = {
        {"nobody", "0.0.0.0", "255.255.255.0"},          {"loopback", "127.0.0.1", "255.0.0.0"},
        {"multicast", "224.0.0.1", "255.255.255.0"},     {"everybody", "255.255.255.255", "255.255.255.0"},
        {"the network's own", "10.0.0.0", "255.255.255.0"}, {"its broadcast", "10.0.0.255", "255.255.255.0"},
        {"mask with holes", "10.0.0.9", "255.0.255.0"},  {"no mask at all", "10.0.0.9", "0.0.0.0"},
    };
    for (size_t i = 0; i < COUNT(ADDRESSES); i++) {
        struct answer answer = usual(DHCP_ACK, ADDRESSES[i].address, ADDRESSES[i].mask);
        expect(&answer, false, ADDRESSES[i].name);
    }
    struct answer answer = usual(DHCP_ACK, "10.0.0.9", NULL);
    expect(&answer, true, "the class's mask");
    answer.bytes[4] ^= 1;
    expect(&answer, false, "another transaction");
    answer.bytes[4] ^= 1;
    answer.bytes[28] ^= 1;
    expect(&answer, false, "another's answer");
    answer.bytes[28] ^= 1;
    answer.bytes[0] = 1;
    expect(&answer, false, "a question");
    answer = begin(DHCP_ACK, "10.0.0.9");
    expect(&answer, false, "no server, no lease");
    answer = begin(DHCP_ACK, "10.0.0.9");
    put_text(&answer, 54, "10.0.0.1");
    put_seconds(&answer, 51, 1);
    expect(&answer, false, "a lease of a second");
    answer = usual(DHCP_ACK, "10.0.0.9", "255.255.255.0");
    answer.bytes[answer.length++] = 3;
    expect(&answer, false, "an option without its length");
    answer.bytes[answer.length++] = 200;
    expect(&answer, false, "an option that reaches past the end");
    for (size_t length = 0; length <= HEAD; length++) {
        answer = usual(DHCP_ACK, "10.0.0.9", "255.255.255.0");
        answer.length = length;
        expect(&answer, false, "cut short");
    }
    answer = usual(DHCP_ACK, "10.0.0.9", "255.255.255.0");
    put(&answer, 121, "\x21\xc0\xa8\x05\x0a\0\0\xfe", 8);
    expect(&answer, true, "a route with a prefix of 33 is passed over");
}

static void test_questions(void)
{
    uint8_t packet[DHCP_PACKET_MAX], frame[DHCP_FRAME_MAX];
    struct dhcp_question question = {.type = DHCP_REQUEST, .transaction = TRANSACTION, .seconds = 300, .mac = MAC,
                                     .hostname = "a-name-that-is-longer-than-the-sixty-three-letters-which-a-label-may-have-at-most",
                                     .requested.s_addr = inet_addr("10.0.0.9"), .server.s_addr = inet_addr("10.0.0.1")};
    size_t length = dhcp_encode(&question, packet);
    check(length >= 300 && length <= DHCP_PACKET_MAX, "dhcp", "question", "length");
    check(packet[0] == 1 && packet[10] == 0x80 && load_u32(packet + 4) == TRANSACTION, "dhcp", "question", "head");
    size_t whole = dhcp_wrap(packet, length, frame);
    check(whole == length + 28, "dhcp", "frame", "length");
    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2)
        sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    check((sum & 0xffff) + (sum >> 16) == 0xffff, "dhcp", "frame", "the head's sum");
    sum = 17 + 8 + (uint32_t)length;
    for (size_t i = 12; i < whole; i += 2)
        sum += (uint32_t)frame[i] << 8 | (i + 1 < whole ? frame[i + 1] : 0u);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    check(sum == 0xffff, "dhcp", "frame", "the datagram's sum");
}

void test_leases(void)
{
    test_good();
    test_bad();
    test_questions();
}
