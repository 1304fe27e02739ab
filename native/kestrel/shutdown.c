#include "shutdown.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "attach.h"
#include "channel.h"
#include "console.h"
#include "control.h"
#include "exec.h"
#include "farewell.h"
#include "freeze.h"
#include "logs.h"
#include "loop.h"
#include "machine.h"
#include "workload.h"

enum { TERM_MS = 1000, KILL_MS = 2000, DRAIN_MS = 1000, DRAIN_STEP_MS = 20 };
enum phase { PHASE_NONE, PHASE_WORKLOAD, PHASE_TERM, PHASE_KILL, PHASE_DRAIN };

static const char *const REASONS[] = {"requested", "workload_ended", "failed", "restart_limit"};

static enum phase phase;
static enum stop_reason reason;
static struct timer timer;
static uint64_t drain_until_ms;

static void enter_phase(enum phase next);

static void on_timer(struct timer *fired)
{
    (void)fired;
    if (phase == PHASE_DRAIN) {
        if (uptime_ms() >= drain_until_ms || !channel_is_attached() || (channel_is_drained() && control_is_drained() && logs_are_drained() && attach_is_drained())) {
            farewell_say(REASONS[reason]); /* now that nobody is left who could write over it */
            machine_power_off();
        }
        timer_set(&timer, DRAIN_STEP_MS);
    } else {
        enter_phase(phase == PHASE_WORKLOAD ? PHASE_KILL : phase + 1); /* who was given its grace gets no more */
    }
}

static void enter_phase(enum phase next)
{
    phase = next;
    switch (phase) {
    case PHASE_NONE:
    case PHASE_WORKLOAD:
        break;
    case PHASE_TERM:
        machine_signal_all(SIGTERM);
        machine_signal_all(SIGCONT);
        timer_set(&timer, TERM_MS);
        break;
    case PHASE_KILL:
        machine_signal_all(SIGKILL);
        timer_set(&timer, KILL_MS);
        break;
    case PHASE_DRAIN:
        drain_until_ms = uptime_ms() + DRAIN_MS;
        timer_set(&timer, 1);
        break;
    }
}

/* Skip the phases that have nobody left to wait for. */
static void leave_workload_phase(void)
{
    siginfo_t info;
    bool alone = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
    enter_phase(alone ? PHASE_DRAIN : PHASE_TERM);
}

void shutdown_begin(enum stop_reason wanted, uint32_t grace_ms)
{
    if (phase == PHASE_WORKLOAD && timer.due_ms > uptime_ms() + grace_ms)
        timer_set(&timer, grace_ms);
    if (phase != PHASE_NONE)
        return;
    phase = PHASE_WORKLOAD;
    reason = wanted;
    timer.fire = on_timer;
    freeze_end(); /* who waits to write could not end */
    console_say("stopping (%s)", REASONS[reason]);
    control_stopping();
    if (workload_stop(grace_ms))
        timer_set(&timer, grace_ms);
    else
        leave_workload_phase();
}

bool shutdown_has_begun(void)
{
    return phase != PHASE_NONE;
}

const char *shutdown_reason(void)
{
    return REASONS[reason];
}

void shutdown_workload_ended(void)
{
    if (phase == PHASE_WORKLOAD)
        leave_workload_phase();
}

void shutdown_no_children(void)
{
    if (phase == PHASE_TERM || phase == PHASE_KILL)
        enter_phase(PHASE_DRAIN);
}
