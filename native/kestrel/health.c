#include "health.h"

#include <stdio.h>
#include <string.h>

#include "asking.h"
#include "control.h"
#include "hook.h"
#include "loop.h"
#include "workload.h"

enum state { STATE_UNKNOWN, STATE_HEALTHY, STATE_UNHEALTHY };
enum { MESSAGE_SIZE = 256 };

static const char *const STATE_NAMES[] = {"unknown", "healthy", "unhealthy"};
static const char *const PROBE_NAMES[] = {"startup", "readiness", "liveness"};

/* One of the probes in this run of the workload. */
struct probing {
    struct asking asking; /* first, so that an answer leads back here */
    struct timer next;
    uint32_t successes; /* in a row, as failures are */
    uint32_t failures;
    bool passed;
};

static void on_answer(struct asking *asking, bool well, const char *message);

static struct {
    const struct config *config;
    bool active;  /* the workload runs */
    bool started; /* post_start and the startup probe are behind it */
    bool live;
    enum state state;
    uint64_t since_ms;
    uint64_t began_ms;
    char message[MESSAGE_SIZE];
    struct probing probings[PROBES];
} health;

static void enter(enum state state, const char *message)
{
    bool changed = state != health.state;
    if (!changed && strcmp(message, health.message) == 0)
        return;
    if (changed)
        health.since_ms = uptime_ms();
    health.state = state;
    snprintf(health.message, sizeof health.message, "%s", message);
    control_health_changed();
}

static size_t index_of(const struct probing *probing)
{
    return (size_t)(probing - health.probings);
}

static const struct probe *probe_of(const struct probing *probing)
{
    return &health.config->probes[index_of(probing)];
}

/* While it starts: often at first, then at a tenth of the time that it has taken already, so that a slow start is not slowed
 * by being asked, and is found ready at most a tenth late. */
static uint64_t start_interval_ms(const struct probe *probe)
{
    uint64_t waited_ms = (uptime_ms() - health.began_ms) / 10;
    uint64_t least_ms = probe->start_interval_ms;
    uint64_t most_ms = probe->interval_ms > least_ms ? probe->interval_ms : least_ms;
    return waited_ms < least_ms ? least_ms : waited_ms > most_ms ? most_ms : waited_ms;
}

static void plan_next(struct probing *probing)
{
    bool eager = index_of(probing) == PROBE_READINESS && !probing->passed;
    timer_set(&probing->next, eager ? start_interval_ms(probe_of(probing)) : probe_of(probing)->interval_ms);
}

static void ask(struct timer *timer)
{
    struct probing *probing = timer->owner;
    const struct question *question = &probe_of(probing)->question;
    asking_begin(&probing->asking, question, &health.config->command, question->timeout_ms);
}

static void plan_first(size_t which)
{
    struct probing *probing = &health.probings[which];
    uint64_t due_ms = health.began_ms + health.config->probes[which].initial_delay_ms, now_ms = uptime_ms();
    probing->asking.answered = on_answer;
    probing->next.fire = ask;
    probing->next.owner = probing;
    timer_set(&probing->next, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void stop_asking(void)
{
    hook_stop();
    for (size_t i = 0; i < PROBES; i++) {
        timer_stop(&health.probings[i].next);
        asking_stop(&health.probings[i].asking);
    }
}

static void forget_answers(void)
{
    for (size_t i = 0; i < PROBES; i++) {
        health.probings[i].successes = health.probings[i].failures = 0;
        health.probings[i].passed = false;
    }
}

/* Nothing more is asked of it; it is ended, and its restart policy decides. */
static void condemn(const char *why)
{
    stop_asking();
    health.active = false;
    enter(STATE_UNHEALTHY, why);
    workload_condemn(why);
}

static void be_started(void)
{
    health.started = true;
    control_health_changed();
    if (health.config->probes[PROBE_LIVENESS].question.kind != QUESTION_NONE)
        plan_first(PROBE_LIVENESS);
    if (health.config->probes[PROBE_READINESS].question.kind != QUESTION_NONE) {
        plan_first(PROBE_READINESS);
        return;
    }
    health.probings[PROBE_READINESS].passed = true; /* a probe that is asked for later has to fail before it says otherwise */
    bool asked = health.config->post_start.kind != QUESTION_NONE || health.config->probes[PROBE_STARTUP].question.kind != QUESTION_NONE;
    enter(STATE_HEALTHY, asked ? "it has started, and no readiness probe was asked for" : "it runs, and no probe was asked for");
}

static void judge_readiness(const struct probing *probing, bool well, const char *message)
{
    if (well && probing->passed && probing->successes >= probe_of(probing)->success_threshold)
        enter(STATE_HEALTHY, message);
    else if (!well && probing->passed && probing->failures >= probe_of(probing)->failure_threshold)
        enter(STATE_UNHEALTHY, message);
    else if (health.state != STATE_HEALTHY)
        enter(health.state, message);
}

static void on_answer(struct asking *asking, bool well, const char *message)
{
    struct probing *probing = (struct probing *)asking;
    const struct probe *probe = probe_of(probing);
    size_t which = index_of(probing);
    char why[MESSAGE_SIZE];
    probing->successes = well && probing->successes < UINT32_MAX ? probing->successes + 1 : well ? UINT32_MAX : 0;
    probing->failures = well ? 0 : probing->failures + 1;
    if (well && probing->successes >= probe->success_threshold)
        probing->passed = true;
    if (which != PROBE_READINESS && probing->failures >= probe->failure_threshold) {
        if (probing->failures == 1)
            snprintf(why, sizeof why, "the %s probe failed: %s", PROBE_NAMES[which], message);
        else
            snprintf(why, sizeof why, "the %s probe failed %u times: %s", PROBE_NAMES[which], probing->failures, message);
        health.live = which != PROBE_LIVENESS;
        condemn(why);
        return;
    }
    if (which == PROBE_STARTUP && probing->passed) {
        be_started();
        return;
    }
    if (which == PROBE_READINESS) {
        judge_readiness(probing, well, message);
    } else if (which == PROBE_STARTUP) {
        snprintf(why, sizeof why, "the startup probe: %s", message);
        enter(health.state, why);
    }
    plan_next(probing);
}

static void ask_startup(void)
{
    if (health.config->probes[PROBE_STARTUP].question.kind == QUESTION_NONE)
        be_started();
    else
        plan_first(PROBE_STARTUP);
}

static void on_post_start(bool well, const char *message)
{
    char why[MESSAGE_SIZE];
    if (well) {
        ask_startup();
        return;
    }
    snprintf(why, sizeof why, "its post_start hook failed: %s", message);
    condemn(why);
}

static void start(void)
{
    const struct question *hook = &health.config->post_start;
    if (hook->kind == QUESTION_NONE) {
        ask_startup();
        return;
    }
    enter(health.state, "its post_start hook runs");
    hook_run(hook, &health.config->command, hook->timeout_ms, true, on_post_start);
}

void health_begin(const struct config *config)
{
    health.config = config;
    health.active = true;
    health.started = false;
    health.live = true;
    health.began_ms = uptime_ms();
    forget_answers();
    control_health_changed();
    start();
}

void health_renew(const struct config *config)
{
    if (health.config == NULL)
        return;
    health.config = config;
    if (!health.active)
        return;
    stop_asking();
    bool passed = health.probings[PROBE_READINESS].passed;
    forget_answers();
    if (!health.started) {
        start();
        return;
    }
    health.probings[PROBE_READINESS].passed = passed;
    health.began_ms = 0; /* its delays are long over, and it is asked at once */
    be_started();
    health.began_ms = uptime_ms();
}

void health_hurry(void)
{
    for (size_t i = 0; i < PROBES; i++)
        if (health.probings[i].next.armed)
            timer_set(&health.probings[i].next, 0);
}

void health_end(void)
{
    if (health.config == NULL)
        return;
    health.active = false;
    health.started = false;
    stop_asking();
    enter(STATE_UNKNOWN, "the workload does not run");
}

static void write_flag(struct writer *writer, const char *name, bool value)
{
    write_text(writer, name);
    write_text(writer, value ? "true" : "false");
}

bool health_describe(struct writer *writer)
{
    if (health.config == NULL)
        return false;
    write_text(writer, "\"workload\":");
    write_quoted(writer, health.config->workload_name);
    write_text(writer, ",\"state\":");
    write_quoted(writer, STATE_NAMES[health.state]);
    write_text(writer, ",\"message\":");
    write_quoted(writer, health.message);
    write_text(writer, ",\"since_ms\":");
    write_integer(writer, (int64_t)health.since_ms);
    write_flag(writer, ",\"started\":", health.started);
    write_flag(writer, ",\"live\":", health.live);
    return true;
}
