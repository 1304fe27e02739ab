/* The decoders against the shared vectors, and what has no vector: the log ring and the status line. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "check.h"
#include "config.h"
#include "farewell.h"
#include "frame.h"
#include "health.h"
#include "json.h"
#include "leases.h"
#include "logring.h"
#include "message.h"
#include "preamble.h"
#include "record.h"
#include "session.h"
#include "vectors.h"
#include "vsock.h"

struct seen {
    size_t sessions;
    uint8_t nonces[8][NONCE_SIZE];
    size_t lengths[8];
    uint8_t bytes[8][256];
};

static void see_begin(void *owner, const uint8_t nonce[NONCE_SIZE])
{
    struct seen *seen = owner;
    memcpy(seen->nonces[seen->sessions], nonce, NONCE_SIZE);
    seen->sessions++;
}

static void see_bytes(void *owner, const uint8_t *bytes, size_t length)
{
    struct seen *seen = owner;
    if (seen->sessions == 0)
        return;
    size_t at = seen->sessions - 1;
    memcpy(seen->bytes[at] + seen->lengths[at], bytes, length);
    seen->lengths[at] += length;
}

static void test_preamble(void)
{
    for (size_t i = 0; i < COUNT(PREAMBLE_CASES); i++) {
        const struct preamble_case *c = &PREAMBLE_CASES[i];
        struct seen seen = {0};
        struct preamble preamble = {0};
        struct preamble_sink sink = {see_begin, see_bytes, &seen};
        memcpy(preamble.secret, c->secret.bytes, SECRET_SIZE);
        for (size_t r = 0; r < c->read_count; r++) {
            uint8_t *own = copy(c->reads[r].bytes, c->reads[r].length);
            preamble_feed(&preamble, own, c->reads[r].length, &sink);
            free(own);
        }
        check(seen.sessions == c->session_count, "preamble", c->name, "number of sessions");
        for (size_t s = 0; s < c->session_count && s < seen.sessions; s++) {
            check(memcmp(seen.nonces[s], c->nonces[s].bytes, NONCE_SIZE) == 0, "preamble", c->name, "nonce");
            check(seen.lengths[s] == c->bytes[s].length && memcmp(seen.bytes[s], c->bytes[s].bytes, seen.lengths[s]) == 0, "preamble",
                  c->name, "session's bytes");
        }
    }
}

static void test_yamux(void)
{
    for (size_t i = 0; i < COUNT(YAMUX_CASES); i++) {
        const struct yamux_case *c = &YAMUX_CASES[i];
        uint8_t *own = copy(c->stream.bytes, c->stream.length);
        size_t at = 0, frames = 0;
        const char *fault = NULL;
        while (c->stream.length - at >= FRAME_HEAD) {
            struct frame frame;
            fault = frame_decode(own + at, &frame);
            if (fault != NULL)
                break;
            size_t size = FRAME_HEAD + (frame.type == FRAME_DATA ? frame.length : 0);
            if (c->stream.length - at < size)
                break;
            if (frames < c->frame_count) {
                check((unsigned)frame.type == c->frames[frames].type && frame.flags == c->frames[frames].flags &&
                          frame.stream == c->frames[frames].stream && frame.length == c->frames[frames].length,
                      "yamux", c->name, "frame");
                uint8_t head[FRAME_HEAD];
                frame_encode(&frame, head);
                check(memcmp(head, own + at, FRAME_HEAD) == 0, "yamux", c->name, "encoded again");
            }
            frames++;
            at += size;
        }
        check((fault == NULL) == (c->violation == NULL) && (fault == NULL || strcmp(fault, c->violation) == 0), "yamux", c->name, "violation");
        if (c->violation == NULL) {
            check(frames == c->frame_count, "yamux", c->name, "number of frames");
            check(c->stream.length - at == c->incomplete, "yamux", c->name, "incomplete bytes");
        }
        free(own);
    }
}

static void test_message(size_t chunk)
{
    static struct json json;
    for (size_t i = 0; i < COUNT(MESSAGE_CASES); i++) {
        const struct message_case *c = &MESSAGE_CASES[i];
        struct message_buffer *buffer = calloc(1, sizeof *buffer);
        if (buffer == NULL)
            abort();
        enum message_state state = MESSAGE_INCOMPLETE;
        size_t at = 0;
        while (state == MESSAGE_INCOMPLETE && at < c->stream.length) {
            size_t length = c->stream.length - at < chunk ? c->stream.length - at : chunk, taken;
            uint8_t *own = copy(c->stream.bytes + at, length);
            state = message_collect(buffer, own, length, &taken);
            free(own);
            at += taken;
        }
        if (state == MESSAGE_WHOLE && !message_decode(buffer, &json))
            state = MESSAGE_BAD;
        check((state == MESSAGE_BAD) == (c->bad != 0), "message", c->name, "violation");
        check((state == MESSAGE_WHOLE) == (c->message != NULL), "message", c->name, "whole");
        if (state == MESSAGE_WHOLE && c->message != NULL) {
            struct text text = {0};
            flatten(&json, 0, &text);
            check(strcmp(text.bytes, c->message) == 0, "message", c->name, text.bytes);
            check(c->stream.length - at == c->rest, "message", c->name, "rest");
        }
        free(buffer);
    }
}

static struct {
    size_t length;
    uint8_t bytes[80000];
} records;

/* stdin may come in pieces: glue those of one record together again. */
static void see_record(void *owner, const struct record_part *part)
{
    size_t *left = owner;
    if (*left == 0) {
        records.bytes[records.length] = part->type;
        records.length += RECORD_HEAD;
    }
    if (part->length > 0)
        memcpy(records.bytes + records.length, part->bytes, part->length);
    records.length += part->length;
    *left += part->length;
}

static void test_exec(void)
{
    for (size_t i = 0; i < COUNT(EXEC_CASES); i++) {
        const struct exec_case *c = &EXEC_CASES[i];
        struct record_reader reader = {.sizes = c->tty != 0, .reopens = c->tty != 0};
        bool good = true;
        records.length = 0;
        memset(records.bytes, 0, sizeof records.bytes);
        size_t heads = 0, inside = 0, start = 0;
        for (size_t at = 0; at < c->stream.length && good; at++) {
            size_t before = records.length;
            good = record_feed(&reader, c->stream.bytes + at, 1, &heads, see_record, &inside);
            if (inside == 0 && records.length > before)
                start = before;
            if (inside > 0 && before + 1 < records.length)
                start = before;
            if (reader.left == 0 && inside > 0) {
                store_u32(records.bytes + start + 1, (uint32_t)inside);
                inside = 0;
            }
        }
        check(good == (c->bad == 0), "exec", c->name, "violation");
        if (c->bad == 0) {
            /* A record of which only a part came is none yet. */
            size_t whole = inside > 0 ? start : records.length;
            check(whole == c->records.length && memcmp(records.bytes, c->records.bytes, whole) == 0, "exec", c->name, "records");
            size_t small = reader.left > 0 && reader.head[0] != RECORD_STDIN ? RECORD_HEAD + reader.small_length : 0;
            size_t part = inside > 0 ? RECORD_HEAD + inside : small;
            check(reader.head_length + part == c->incomplete, "exec", c->name, "incomplete bytes");
        }
    }
}

static void test_config(void)
{
    static struct config config;
    for (size_t i = 0; i < COUNT(CONFIG_CASES); i++) {
        const struct config_case *c = &CONFIG_CASES[i];
        char fault[FAULT_TEXT] = "", digest[DIGEST_TEXT];
        config_digest((const char *)c->document.bytes, c->document.length, digest);
        char *own = (char *)copy(c->document.bytes, c->document.length);
        bool good = config_parse(&config, own, c->document.length, fault);
        check(good == (c->digest != NULL), "config", c->name, good ? "accepted" : fault);
        if (c->digest != NULL) {
            check(strcmp(digest, c->digest) == 0, "config", c->name, digest);
        } else if (!good) {
            size_t length = strlen(c->malformed);
            check(strncmp(fault, c->malformed, length) == 0 && fault[length] == ':', "config", c->name, fault);
        }
        free(own);
    }
}

/* No decoder may fall over whatever comes. A fixed seed, so that a failure comes again. */
static void test_noise(void)
{
    static struct json json;
    static struct config config;
    static const char NOISE[] = "{}[]\",:\\u0\xff\xc3 1-e";
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        seed = seed * 1664525u + 1013904223u;
        const struct config_case *c = &CONFIG_CASES[seed % COUNT(CONFIG_CASES)];
        if (c->document.length == 0)
            continue;
        char *own = (char *)copy(c->document.bytes, c->document.length);
        for (int i = 0; i < 4; i++) {
            seed = seed * 1664525u + 1013904223u;
            own[(seed >> 8) % c->document.length] = NOISE[(seed >> 3) % (sizeof NOISE - 1)];
        }
        char fault[FAULT_TEXT];
        char *again = (char *)copy((uint8_t *)own, c->document.length);
        bool parsed = json_parse(&json, again, c->document.length);
        check(!config_parse(&config, own, c->document.length, fault) || parsed, "noise", c->name, "the two parsers disagree");
        free(own);
        free(again);
    }
}

static void test_logring(void)
{
    static struct log_line line = {.source = LOG_STDOUT};
    static uint8_t record[LOG_HEAD + LOG_LINE_MAX];
    static char long_line[LOG_LINE_MAX + 10];
    struct log_cursor start = logring_find(0);
    check(!logring_has(&start), "logring", "empty", "something is there");
    log_line_feed(&line, "one\ntw", 6);
    log_line_feed(&line, "o\n\n", 3);
    static const char *const WANTED[] = {"one", "two", ""};
    for (uint32_t i = 0; i < 3; i++) {
        size_t size = logring_read(&start, record, sizeof record);
        check(size == LOG_HEAD + strlen(WANTED[i]) && memcmp(record + LOG_HEAD, WANTED[i], size - LOG_HEAD) == 0, "logring", WANTED[i], "line");
        check(load_u32(record + 4) == i + 1 && record[16] == LOG_STDOUT && record[17] == 0, "logring", WANTED[i], "head");
    }
    memset(long_line, 'x', sizeof long_line);
    long_line[sizeof long_line - 1] = '\n';
    log_line_feed(&line, long_line, sizeof long_line);
    check(logring_read(&start, record, LOG_HEAD + 100) == 0, "logring", "long line", "read without room");
    check(logring_read(&start, record, sizeof record) == sizeof record && record[17] == 1, "logring", "long line", "first part goes on");
    check(logring_read(&start, record, sizeof record) == LOG_HEAD + 9 && record[17] == 0, "logring", "long line", "its end");
    log_line_feed(&line, long_line, LOG_LINE_MAX);
    log_line_feed(&line, "\n", 1);
    check(logring_read(&start, record, sizeof record) == sizeof record && record[17] == 0, "logring", "line of exactly the limit", "goes on");
    struct log_cursor slow = logring_find(0);
    for (int i = 0; i < 100000; i++)
        log_line_feed(&line, "flooding the ring\n", 18);
    check(logring_next() - logring_oldest() <= LOG_RING_SIZE / LOG_HEAD, "logring", "flood", "holds more than it can");
    uint64_t sequence = 0, count = 0;
    for (size_t size; (size = logring_read(&slow, record, sizeof record)) > 0; count++) {
        uint64_t next = (uint64_t)load_u32(record) << 32 | load_u32(record + 4);
        check(sequence == 0 ? next == logring_oldest() : next == sequence + 1, "logring", "slow reader", "sequence");
        sequence = next;
    }
    check(sequence + 1 == logring_next() && count == logring_next() - logring_oldest(), "logring", "slow reader", "end");
    struct log_cursor after = logring_find(sequence - 1);
    check(logring_read(&after, record, sizeof record) > 0 && load_u32(record + 4) == (uint32_t)sequence, "logring", "find", "the one after");
    after = logring_find(UINT64_MAX);
    check(!logring_has(&after), "logring", "find", "beyond the end");
}

static void test_status_line(void)
{
    static const struct {
        const char *answer;
        int status;
    } CASES[] = {{"HTTP/1.1 200 OK\r\n", 200}, {"HTTP/1.0 404 Not Found\r\n", 404}, {"HTTP/1.1 204\r\n", 204}, {"HTTP/1.1 20", 0}, {"", 0},
                 {"HTTP/1.1 200", 0}, {"HTTP/2 200 OK", -1}, {"SSH-2.0-x", -1}, {"HTTP/1.1 2x0 ", -1}, {"HTTP/1.1 2000 ", -1}};
    for (size_t i = 0; i < COUNT(CASES); i++)
        check(health_read_status(CASES[i].answer, strlen(CASES[i].answer)) == CASES[i].status, "status line", CASES[i].answer, "status");
}

/* What of vsock can be seen without a guest: the address that is listened on, and that nobody else passes for the host. */
static void test_vsock(void)
{
    int ends[2];
    struct sockaddr_vm own = {0};
    socklen_t size = sizeof own;
    int fd = vsock_listen();
    if (fd < 0 && errno == EAFNOSUPPORT) {
        fputs("this kernel has no vsock: its address is not tested\n", stderr);
    } else if (fd >= 0 || errno != EADDRINUSE) {
        check(fd >= 0 && getsockname(fd, (struct sockaddr *)&own, &size) == 0, "vsock", "listen", strerror(errno));
        check(own.svm_family == AF_VSOCK && own.svm_port == 1024 && own.svm_cid == VMADDR_CID_ANY, "vsock", "listen", "address");
        check(!vsock_is_host(fd), "vsock", "host", "a socket without another end");
    }
    if (fd >= 0)
        close(fd);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && !vsock_is_host(ends[0]), "vsock", "host", "a socket of another family");
    close(ends[0]);
    close(ends[1]);
}

static void test_digest(void)
{
    char digest[DIGEST_TEXT];
    config_digest("abc", 3, digest);
    check(strcmp(digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0, "sha256", "abc", digest);
}

static void test_farewell(void)
{
    for (size_t i = 0; i < COUNT(FAREWELL_CASES); i++) {
        const struct farewell_case *c = &FAREWELL_CASES[i];
        char line[FAREWELL_SIZE];
        size_t length = farewell_write(line, c->digest, c->ended != 0, c->status, c->reason);
        check(length < sizeof line && length == strlen(line) && strcmp(line, c->line) == 0, "farewell", c->name, line);
    }
}

int main(void)
{
    test_digest();
    test_farewell();
    test_vsock();
    test_preamble();
    test_yamux();
    test_message(1);
    test_message(1 << 20);
    test_exec();
    test_config();
    test_noise();
    test_status_line();
    test_logring();
    test_leases();
    test_request();
    test_turns();
    test_session(1);
    test_session(7);
    test_session(1 << 20);
    return check_report("decoders");
}
