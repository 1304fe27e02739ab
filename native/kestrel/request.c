#include "request.h"

#include <string.h>

#include "configuration.h"
#include "control.h"
#include "dhcp.h"
#include "freeze.h"
#include "health.h"
#include "machine.h"
#include "shutdown.h"
#include "stats.h"

enum { GRACE_MAX_MS = 3600000, FREEZE_MAX_MS = 60000 };

static void set_clock(struct ticket ticket, const struct json *message)
{
    int64_t unix_ns;
    if (!json_integer(message, json_member(message, 0, "unix_ns"), &unix_ns) || unix_ns < 0) {
        control_refuse(ticket, "malformed", "unix_ns: not nanoseconds since 1970");
    } else if (!machine_set_clock(unix_ns)) {
        control_refuse(ticket, "failed", "the clock cannot be set");
    } else {
        health_hurry(); /* a guest that has slept is told the time */
        dhcp_hurry();
        control_answer(ticket, NULL);
    }
}

static void shut_down(struct ticket ticket, const struct json *message)
{
    int64_t grace_ms;
    if (!json_integer(message, json_member(message, 0, "grace_ms"), &grace_ms) || grace_ms < 0 || grace_ms > GRACE_MAX_MS) {
        control_refuse(ticket, "malformed", "grace_ms: not 0 to 3600000");
        return;
    }
    control_answer(ticket, NULL);
    shutdown_begin(STOP_REQUESTED, (uint32_t)grace_ms);
}

static void give_stats(struct ticket ticket, const struct json *message)
{
    (void)message;
    control_answer(ticket, stats_describe);
}

static void freeze(struct ticket ticket, const struct json *message)
{
    int64_t timeout_ms;
    if (!json_integer(message, json_member(message, 0, "timeout_ms"), &timeout_ms) || timeout_ms < 1 || timeout_ms > FREEZE_MAX_MS)
        control_refuse(ticket, "malformed", "timeout_ms: not 1 to 60000");
    else
        freeze_begin(ticket, (uint32_t)timeout_ms);
}

static void thaw(struct ticket ticket, const struct json *message)
{
    (void)message;
    freeze_thaw(ticket);
}

static void sync_disks(struct ticket ticket, const struct json *message)
{
    (void)message;
    freeze_sync(ticket);
}

static const struct {
    const char *type;
    void (*take)(struct ticket ticket, const struct json *message);
} REQUESTS[] = {
    {"configure", configuration_take}, {"renew", configuration_renew}, {"clock", set_clock}, {"shutdown", shut_down},
    {"stats", give_stats},             {"freeze", freeze},             {"thaw", thaw},       {"sync", sync_disks},
};

void request_take(struct ticket ticket, const struct json *message)
{
    const char *type = json_text(message, json_member(message, 0, "type"));
    if (type == NULL) {
        control_refuse(ticket, "malformed", "type: missing");
        return;
    }
    for (size_t i = 0; i < sizeof REQUESTS / sizeof REQUESTS[0]; i++) {
        if (strcmp(type, REQUESTS[i].type) == 0) {
            REQUESTS[i].take(ticket, message);
            return;
        }
    }
    control_refuse(ticket, "malformed", "type: no such request");
}
