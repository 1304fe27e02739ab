/* A guest that means harm: in the place of kestrel it opens the agent's port and does something else with every session. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "modules.h"
#include "port.h"

enum { PREAMBLE = 56, NONCE = 16, WAIT_MS = 50, FLOOD_S = 4 };

static const uint8_t magic[8] = {'V', 'O', 'L', 'A', 'N', 'T', 0, 1};
static int port = -1;
static uint8_t seen[65536];
static size_t seen_length;
static bool is_begun; /* a preamble was read and not yet served */

/* Take what the host says; a read that begins with the magic bytes begins a session. */
static void hear(int timeout_ms)
{
    struct pollfd ready = {.fd = port, .events = POLLIN};
    if (poll(&ready, 1, timeout_ms) <= 0)
        return;
    ssize_t length = read(port, seen, sizeof seen - 1);
    if (length <= 0) {
        poll(NULL, 0, WAIT_MS); /* nobody is at the other end */
        length = 0;
    }
    seen_length = (size_t)length;
    seen[seen_length] = '\0';
    if (seen_length >= PREAMBLE && memcmp(seen, magic, sizeof magic) == 0)
        is_begun = true;
}

/* Write all of it unless the session is over. */
static void say(const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0 && !is_begun) {
        ssize_t written = write(port, at, length);
        if (written > 0) {
            at += written;
            length -= (size_t)written;
        } else {
            hear(WAIT_MS);
        }
    }
}

static void put_number(uint8_t *at, uint32_t number)
{
    for (int byte = 0; byte < 4; byte++)
        at[byte] = (uint8_t)(number >> (24 - 8 * byte));
}

static void say_frame(uint8_t type, uint16_t flags, uint32_t stream, uint32_t value, const void *payload, size_t length)
{
    uint8_t head[12] = {0, type, (uint8_t)(flags >> 8), (uint8_t)flags};
    put_number(head + 4, stream);
    put_number(head + 8, value);
    say(head, sizeof head);
    say(payload, length);
}

static void say_data(uint32_t stream, const void *payload, size_t length)
{
    say_frame(0, 0, stream, (uint32_t)length, payload, length);
}

static void say_message(uint32_t stream, const char *text)
{
    static uint8_t message[4096];
    size_t length = strlen(text);
    put_number(message, (uint32_t)length);
    memcpy(message + 4, text, length);
    say_data(stream, message, length + 4);
}

static void say_hello(void)
{
    say_message(1, "{\"type\":\"hello\",\"version\":1,\"agent\":\"kestrel/9\\u001b[2J\",\"boot_id\":\"hostile\",\"state\":\"waiting\","
                   "\"max_streams\":1000,\"capabilities\":[\"exec\",\"logs\",\"tty\",\"attach\",\"connect\",\"files\",\"renew\"]}");
}

static bool goes_on(time_t until)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    hear(0);
    return !is_begun && now.tv_sec < until;
}

static time_t soon(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + FLOOD_S;
}

/* For a while, unless the host has had enough before. */
static void flood(uint8_t type, uint16_t flags, uint32_t stream, uint32_t value, const void *payload, size_t length)
{
    for (time_t until = soon(); goes_on(until);)
        say_frame(type, flags, stream, value, payload, length);
}

/* Accept everything that is asked, and lie in what follows. */
static void pretend(void)
{
    static const uint8_t lie[5] = {1, 0xff, 0xff, 0xff, 0xff};
    say_hello();
    while (!is_begun) {
        hear(WAIT_MS);
        for (size_t at = 0; at + 12 < seen_length && !is_begun; at++) {
            const char *text = (const char *)seen + at;
            uint32_t stream = (uint32_t)seen[6] << 8 | seen[7];
            if (memcmp(text, "\"id\":", 5) == 0) {
                char answer[64];
                snprintf(answer, sizeof answer, "{\"re\":%ld,\"ok\":{}}", strtol(text + 5, NULL, 10));
                say_message(1, answer);
                say_message(1, "{\"type\":\"workload\",\"workload\":\"main\",\"state\":\"running\",\"pid\":9}");
                say_message(1, "{\"type\":\"health\",\"workload\":\"main\",\"state\":\"healthy\",\"message\":\"\\u001b]0;x\\u0007\"}");
            } else if (memcmp(text, "\"open\":", 7) == 0) {
                say_message(stream, "{\"ok\":{\"pid\":1,\"tty\":false,\"oldest\":1,\"next\":1}}");
                say_data(stream, lie, sizeof lie);
            }
        }
        seen_length = 0;
    }
}

static void do_harm(unsigned turn)
{
    static uint8_t noise[4096];
    for (size_t at = 0; at < sizeof noise; at++)
        noise[at] = (uint8_t)(rand() >> 7);
    switch (turn) {
    case 0: /* nothing */
        while (!is_begun)
            hear(-1);
        break;
    case 1:
        for (time_t until = soon(); goes_on(until);)
            say(noise, sizeof noise);
        break;
    case 2:
        say_frame(0, 0, 1, 0x7fffffff, noise, sizeof noise);
        break;
    case 3:
        say_hello();
        say_frame(1, 1, 2, 0, NULL, 0); /* opens a stream */
        break;
    case 4:
        say_hello();
        say_frame(1, 0, 1, 0xffffffff, NULL, 0);
        break;
    case 5:
        say_hello();
        flood(2, 1, 0, 7, NULL, 0); /* pings */
        break;
    case 6:
        say_hello();
        flood(0, 0, 1, sizeof noise, noise, sizeof noise); /* past its window */
        break;
    case 7: {
        static const uint8_t endless[4] = {0, 0, 0xff, 0xff};
        say_hello();
        say_data(1, endless, sizeof endless);
        flood(0, 0, 1, 0, NULL, 0); /* frames without content */
        break;
    }
    case 8:
        say_hello();
        for (time_t until = soon(); goes_on(until);) {
            say_message(1, "{\"type\":\"health\",\"workload\":\"main\",\"state\":\"unhealthy\",\"message\":\"a\"}");
            say_message(1, "{\"type\":\"health\",\"workload\":\"main\",\"state\":\"healthy\",\"message\":\"b\"}");
        }
        break;
    default:
        pretend();
    }
    say_frame(0, 0, 1, 0x7fffffff, NULL, 0); /* what no host puts up with, whatever it thought of the rest */
}

int main(void)
{
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    console_open(open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC));
    modules_load();
    while ((port = port_open("volant.agent")) < 0)
        poll(NULL, 0, WAIT_MS);
    for (unsigned turn = 0;;) {
        while (!is_begun)
            hear(-1);
        is_begun = false;
        uint8_t answer[24] = {'V', 'O', 'L', 'A', 'N', 'T', 1, 1};
        memcpy(answer + 8, seen + PREAMBLE - NONCE, NONCE);
        seen_length = 0;
        console_say("harm %u", turn);
        say(answer, sizeof answer);
        do_harm(turn);
        turn = (turn + 1) % 10;
    }
}
