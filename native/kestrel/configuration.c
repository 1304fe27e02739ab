#include "configuration.h"

#include <string.h>

#include "channel.h"
#include "console.h"
#include "control.h"
#include "freeze.h"
#include "loop.h"
#include "machine.h"
#include "shutdown.h"
#include "timeline.h"
#include "workload.h"

/* Two places, so that a document that turns out to be wrong leaves the one that holds as it is. */
static struct config configs[2];
static char documents[2][JSON_TEXT_MAX + 1];
static size_t current;
static char digest[DIGEST_TEXT];
static bool accepted;
static bool in_force;
static bool torn; /* a renewal failed on its way: what holds is no longer what is in force */
static struct timer apply_timer;

/* The document of a request and its digest, or NULL after an answer. */
static const char *find_document(struct ticket ticket, const struct json *message, char wanted[DIGEST_TEXT])
{
    const char *text = json_text(message, json_member(message, 0, "document"));
    if (text == NULL)
        control_refuse(ticket, "malformed", "document: missing, or not a string without NUL");
    else
        config_digest(text, strlen(text), wanted);
    return text;
}

static bool parse(struct ticket ticket, const char *text, size_t place)
{
    char fault[FAULT_TEXT];
    size_t size = strlen(text);
    memcpy(documents[place], text, size + 1);
    if (config_parse(&configs[place], documents[place], size, fault))
        return true;
    control_refuse(ticket, "malformed", fault);
    return false;
}

static void apply(struct timer *timer)
{
    char text[256];
    (void)timer;
    if (shutdown_has_begun())
        return;
    if (!machine_configure(&configs[current], text, sizeof text)) {
        console_say("configuration failed: %s", text);
        workload_fail(configs[current].workload_name, text);
        return;
    }
    in_force = true;
    timeline_mark(MILESTONE_CONFIGURED);
    workload_start(&configs[current]);
}

void configuration_take(struct ticket ticket, const struct json *message)
{
    char wanted[DIGEST_TEXT];
    const char *text = find_document(ticket, message, wanted);
    if (text == NULL)
        return;
    if (accepted) {
        if (strcmp(wanted, digest) == 0)
            control_answer(ticket, NULL);
        else
            control_refuse(ticket, "already_configured", "another configuration holds");
        return;
    }
    if (!parse(ticket, text, current))
        return;
    accepted = true;
    strcpy(digest, wanted);
    channel_set_secret(configs[current].channel_secret);
    apply_timer.fire = apply;
    timer_set(&apply_timer, 0); /* behind the answer */
    control_answer(ticket, NULL);
}

static bool has_same_root(const struct config *config, const struct config *other)
{
    return config->root == other->root && (config->root != ROOT_DISK || strcmp(config->root_disk, other->root_disk) == 0);
}

static void renew(struct ticket ticket, size_t place, const char wanted[DIGEST_TEXT])
{
    char text[256];
    torn = true;
    if (!machine_renew(&configs[place], text, sizeof text)) {
        console_say("the configuration was not renewed: %s", text);
        control_refuse(ticket, "failed", text);
        return;
    }
    torn = false;
    current = place;
    strcpy(digest, wanted);
    channel_set_secret(configs[current].channel_secret);
    workload_renew(&configs[current]);
    control_answer(ticket, NULL);
}

void configuration_renew(struct ticket ticket, const struct json *message)
{
    char wanted[DIGEST_TEXT];
    const char *text = find_document(ticket, message, wanted);
    size_t place = 1 - current;
    if (text == NULL)
        return;
    if (!in_force)
        control_refuse(ticket, "not_configured", "no configuration is in force that could be renewed");
    else if (shutdown_has_begun())
        control_refuse(ticket, "failed", "the guest is stopping");
    else if (strcmp(wanted, digest) == 0 && !torn)
        control_answer(ticket, NULL);
    else if (!parse(ticket, text, place))
        return;
    else if (!has_same_root(&configs[place], &configs[current]))
        control_refuse(ticket, "malformed", "root: not the root that is in force");
    else if (!freeze_end()) /* the files of the new identity could not be written */
        control_refuse(ticket, "busy", "the disk is just being frozen");
    else
        renew(ticket, place, wanted);
}

bool configuration_is_accepted(void)
{
    return accepted;
}

bool configuration_is_in_force(void)
{
    return in_force;
}

const struct config *configuration(void)
{
    return &configs[current];
}

const char *configuration_digest(void)
{
    return digest;
}
