#include "control.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "beside.h"
#include "configuration.h"
#include "dhcp.h"
#include "frame.h"
#include "health.h"
#include "loop.h"
#include "request.h"
#include "shutdown.h"
#include "timeline.h"
#include "workload.h"

#ifndef KESTREL_VERSION
#define KESTREL_VERSION "0.1.0"
#endif

enum { OUT_SIZE = 65536, NOTICE_INTERVAL_MS = 100, NOTICE_BURST = 10 };

/* Ten at once and ten a second: what changes seldom is told without delay. */
struct notice {
    bool due;
    uint32_t spent;
    uint64_t counted_ms; /* when `spent` was last brought up to date */
};

static struct {
    struct stream *stream;
    uint32_t session; /* counted, so that no answer comes to another one's host */
    struct message_buffer in;
    uint8_t out[OUT_SIZE]; /* answers and at most one notice */
    size_t out_length;
    size_t out_sent;
    bool hello_due;
    bool stopping_due;
    struct notice workload;
    struct notice health;
    struct notice network;
    struct timer interval;
} control;

static struct writer begin_message(void)
{
    return (struct writer){.bytes = (char *)control.out + control.out_length, .capacity = OUT_SIZE - control.out_length, .length = MESSAGE_HEAD};
}

static void finish_message(const struct writer *writer)
{
    if (writer->overflow || writer->capacity < MESSAGE_HEAD) {
        session_violate("requests"); /* it asks and asks and reads no answer */
        return;
    }
    store_u32(control.out + control.out_length, (uint32_t)(writer->length - MESSAGE_HEAD));
    control.out_length += writer->length;
}

/* What a host may ask of this agent beyond version 1 of the protocol. */
static const char *const CAPABILITIES[] = {
    "exec", "logs", "http_probe", "renew", "freeze", "sync", "clone", "tty", "attach", "connect", "files", "mounts",
    "probes", "hooks", "ulimits", "dhcp", "stats2",
};

/* Nothing may read the boot id before the first hello: the kernel makes it at that moment, and what a clone is made of has none. */
static void put_hello(struct writer *writer)
{
    char boot_id[40] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t length = read(fd, boot_id, sizeof boot_id - 1);
        boot_id[length > 0 ? length : 0] = '\0';
        boot_id[strcspn(boot_id, "\n")] = '\0';
        close(fd);
    }
    write_text(writer, "{\"type\":\"hello\",\"version\":1,\"agent\":\"kestrel/" KESTREL_VERSION "\",\"boot_id\":");
    write_quoted(writer, boot_id);
    write_text(writer, ",\"uptime_ms\":");
    write_integer(writer, (int64_t)uptime_ms());
    write_text(writer, ",\"state\":");
    write_quoted(writer, shutdown_has_begun() ? "stopping" : configuration_is_accepted() ? "configured" : "waiting");
    write_text(writer, ",\"config_digest\":");
    write_quoted(writer, configuration_digest());
    write_text(writer, ",\"timeline\":");
    timeline_describe(writer);
    write_text(writer, ",\"max_streams\":");
    write_integer(writer, STREAMS_MAX);
    write_text(writer, ",\"capabilities\":[");
    for (size_t i = 0; i < sizeof CAPABILITIES / sizeof CAPABILITIES[0]; i++) {
        write_text(writer, i == 0 ? "" : ",");
        write_quoted(writer, CAPABILITIES[i]);
    }
    write_text(writer, "]}");
}

static bool put_notice(struct writer *writer, const char *type, bool (*describe)(struct writer *))
{
    write_text(writer, "{\"type\":");
    write_quoted(writer, type);
    write_text(writer, ",");
    bool there = describe(writer);
    write_text(writer, "}");
    return there;
}

/* A notice whose time has come; otherwise the timer brings us back. */
static bool take_turn(struct notice *notice)
{
    if (!notice->due)
        return false;
    uint64_t now = uptime_ms();
    uint64_t regained = (now - notice->counted_ms) / NOTICE_INTERVAL_MS;
    notice->spent = regained < notice->spent ? notice->spent - (uint32_t)regained : 0;
    notice->counted_ms = notice->spent == 0 ? now : notice->counted_ms + regained * NOTICE_INTERVAL_MS;
    if (notice->spent == NOTICE_BURST && !shutdown_has_begun()) {
        if (!control.interval.armed)
            timer_set(&control.interval, notice->counted_ms + NOTICE_INTERVAL_MS - now);
        return false;
    }
    notice->due = false;
    if (notice->spent < NOTICE_BURST)
        notice->spent++;
    return true;
}

static void stage_next(void)
{
    struct writer writer = begin_message();
    bool there = true;
    if (control.hello_due) {
        control.hello_due = false;
        put_hello(&writer);
    } else if (take_turn(&control.workload)) {
        there = put_notice(&writer, "workload", workload_describe);
    } else if (take_turn(&control.health)) {
        there = put_notice(&writer, "health", health_describe);
    } else if (take_turn(&control.network)) {
        there = put_notice(&writer, "network", dhcp_describe);
    } else if (control.stopping_due) {
        control.stopping_due = false;
        write_text(&writer, "{\"type\":\"stopping\",\"reason\":");
        write_quoted(&writer, shutdown_reason());
        write_text(&writer, "}");
    } else {
        return;
    }
    if (there)
        finish_message(&writer);
    else
        stage_next();
}

static size_t produce(struct stream *stream, uint8_t *to, size_t room)
{
    (void)stream;
    if (control.out_length == control.out_sent) {
        control.out_length = control.out_sent = 0;
        stage_next();
    }
    size_t left = control.out_length - control.out_sent;
    size_t taken = left < room ? left : room;
    memcpy(to, control.out + control.out_sent, taken);
    control.out_sent += taken;
    return taken;
}

static bool begin_answer(struct ticket ticket, struct writer *writer)
{
    if (control.stream == NULL || ticket.id == 0 || ticket.session != control.session)
        return false;
    *writer = begin_message();
    write_text(writer, "{\"re\":");
    write_integer(writer, ticket.id);
    return true;
}

void control_answer(struct ticket ticket, void (*describe)(struct writer *writer))
{
    struct writer writer;
    if (!begin_answer(ticket, &writer))
        return;
    write_text(&writer, ",\"ok\":");
    if (describe != NULL)
        describe(&writer);
    else
        write_text(&writer, "{}");
    write_text(&writer, "}");
    finish_message(&writer);
}

void control_answer_flag(struct ticket ticket, const char *name, bool value)
{
    struct writer writer;
    if (!begin_answer(ticket, &writer))
        return;
    write_text(&writer, ",\"ok\":{");
    write_quoted(&writer, name);
    write_text(&writer, value ? ":true}}" : ":false}}");
    finish_message(&writer);
}

void control_refuse(struct ticket ticket, const char *code, const char *text)
{
    struct writer writer;
    if (!begin_answer(ticket, &writer))
        return;
    write_text(&writer, ",\"error\":{\"code\":");
    write_quoted(&writer, code);
    write_text(&writer, ",\"message\":");
    write_quoted(&writer, text);
    write_text(&writer, "}}");
    finish_message(&writer);
}

static void take_message(const struct json *message)
{
    uint32_t id_node = json_member(message, 0, "id");
    int64_t id;
    if (id_node == 0)
        return; /* a notice or an answer; version 1 has none that concern us */
    if (!json_integer(message, id_node, &id) || id <= 0) {
        session_violate("message");
        return;
    }
    request_take((struct ticket){control.session, id}, message);
}

static void receive(struct stream *stream, const uint8_t *bytes, size_t length)
{
    static struct json message;
    while (length > 0 && session_is_open()) {
        size_t taken;
        enum message_state state = message_collect(&control.in, bytes, length, &taken);
        stream_consumed(stream, taken);
        bytes += taken;
        length -= taken;
        if (state == MESSAGE_INCOMPLETE)
            return;
        if (state == MESSAGE_WHOLE && message_decode(&control.in, &message))
            take_message(&message);
        else
            session_violate("message");
    }
}

static void host_ended(struct stream *stream)
{
    (void)stream;
    session_violate("control_ended");
}

static void closed(struct stream *stream, bool lost)
{
    (void)stream;
    (void)lost;
    control.stream = NULL;
    timer_stop(&control.interval);
    session_violate("control_ended"); /* does nothing when it is the session that ended */
}

static const struct stream_kind CONTROL = {receive, host_ended, produce, closed};

static void wake(struct timer *timer)
{
    (void)timer; /* the channel is flushed after every step */
}

static void open_control(struct stream *stream, const struct json *message)
{
    uint32_t versions = json_member(message, 0, "versions");
    bool known = false;
    if (versions != 0 && json_type(message, versions) == JSON_ARRAY) {
        for (uint32_t node = json_first(message, versions); node != 0; node = json_following(message, versions, node)) {
            int64_t version;
            known = known || (json_integer(message, node, &version) && version == 1);
        }
    }
    if (!known) {
        session_violate("version");
        return;
    }
    control.stream = stream;
    control.session++;
    control.in.length = 0;
    control.out_length = control.out_sent = 0;
    control.hello_due = true;
    control.stopping_due = shutdown_has_begun();
    control.workload = (struct notice){.due = true};
    control.health = (struct notice){.due = true};
    control.network = (struct notice){.due = true};
    control.interval.fire = wake;
    stream->kind = &CONTROL;
}

void control_open_stream(struct stream *stream, const struct json *message)
{
    const char *kind = json_text(message, json_member(message, 0, "open"));
    bool wants_control = kind != NULL && strcmp(kind, "control") == 0;
    if (wants_control == (control.stream != NULL)) {
        session_violate("control_first");
        return;
    }
    if (wants_control)
        open_control(stream, message);
    else if (kind == NULL)
        stream_refuse(stream, "malformed", "open: missing");
    else
        beside_open(stream, message, kind);
}

void control_workload_changed(void)
{
    control.workload.due = true;
}

void control_health_changed(void)
{
    control.health.due = true;
}

void control_network_changed(void)
{
    control.network.due = true;
}

void control_stopping(void)
{
    control.stopping_due = true;
}

void control_mark_started(void)
{
    timeline_mark(MILESTONE_STARTED);
}

bool control_is_drained(void)
{
    return control.stream == NULL ||
           (control.out_length == control.out_sent && !control.hello_due && !control.stopping_due && !control.workload.due && !control.health.due);
}
