#include "freeze.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "loop.h"
#include "machine.h"
#include "shutdown.h"

enum state { STATE_LOOSE, STATE_FREEZING, STATE_FROZEN };

struct chore {
    pid_t pid; /* 0: nobody is at it */
    struct ticket ticket;
};

static struct chore syncing;
static struct {
    enum state state;
    bool unwanted; /* whoever asked has given up: thaw it when it is frozen after all */
    uint32_t timeout_ms;
    struct chore chore;
    struct timer timer;
} freezer;

static bool start(struct chore *chore, struct ticket ticket, bool (*work)(void))
{
    if (chore->pid != 0 || shutdown_has_begun()) {
        control_refuse(ticket, chore->pid != 0 ? "busy" : "failed", chore->pid != 0 ? "an earlier one is still at work" : "the guest is stopping");
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(work() ? 0 : errno > 0 && errno < 256 ? errno : 255);
    if (pid < 0) {
        control_refuse(ticket, "failed", strerror(errno));
        return false;
    }
    *chore = (struct chore){pid, ticket};
    return true;
}

static bool sync_only(void)
{
    machine_sync();
    return true;
}

static bool sync_and_freeze(void)
{
    machine_sync();
    return !machine_can_freeze() || machine_freeze();
}

void freeze_sync(struct ticket ticket)
{
    start(&syncing, ticket, sync_only);
}

/* Thawing waits only for a freeze under way, and there is none here: PID 1 can do it itself. */
static void thaw_now(void)
{
    timer_stop(&freezer.timer);
    freezer.state = STATE_LOOSE;
    machine_thaw();
}

static void on_timer(struct timer *timer)
{
    (void)timer;
    if (freezer.state == STATE_FROZEN) {
        console_say("nobody thawed the disk within %u ms: thawed", freezer.timeout_ms);
        thaw_now();
    } else if (freezer.state == STATE_FREEZING) {
        freezer.unwanted = true;
        control_refuse(freezer.chore.ticket, "failed", "the disk could not be written out and frozen in that time");
    }
}

void freeze_begin(struct ticket ticket, uint32_t timeout_ms)
{
    freezer.timer.fire = on_timer;
    if (freezer.state == STATE_FROZEN) {
        freezer.timeout_ms = timeout_ms;
        timer_set(&freezer.timer, timeout_ms);
        control_answer_flag(ticket, "frozen", true);
        return;
    }
    if (!start(&freezer.chore, ticket, sync_and_freeze))
        return;
    freezer.state = STATE_FREEZING;
    freezer.unwanted = false;
    freezer.timeout_ms = timeout_ms;
    timer_set(&freezer.timer, timeout_ms);
}

bool freeze_end(void)
{
    if (freezer.state == STATE_FROZEN)
        thaw_now();
    if (freezer.state == STATE_LOOSE)
        return true;
    if (!freezer.unwanted)
        control_refuse(freezer.chore.ticket, "failed", "it was told to thaw before it was frozen");
    freezer.unwanted = true;
    timer_stop(&freezer.timer);
    return false;
}

void freeze_thaw(struct ticket ticket)
{
    bool any = freezer.state != STATE_LOOSE;
    freeze_end();
    control_answer_flag(ticket, "thawed", any);
}

static void settle_freeze(int error)
{
    struct ticket ticket = freezer.chore.ticket;
    freezer.chore = (struct chore){0};
    freezer.state = STATE_LOOSE;
    timer_stop(&freezer.timer);
    if (error < 0 || (error == 0 && freezer.unwanted))
        machine_thaw(); /* whoever was killed may just have frozen it */
    if (freezer.unwanted)
        return;
    if (error != 0) {
        control_refuse(ticket, "failed", error < 0 ? "it was ended by a signal" : strerror(error));
        return;
    }
    if (machine_can_freeze()) {
        freezer.state = STATE_FROZEN;
        timer_set(&freezer.timer, freezer.timeout_ms);
    }
    control_answer_flag(ticket, "frozen", freezer.state == STATE_FROZEN);
}

bool freeze_reaped(pid_t pid, int status)
{
    int error = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (pid == freezer.chore.pid) {
        settle_freeze(error);
    } else if (pid == syncing.pid) {
        struct ticket ticket = syncing.ticket;
        syncing = (struct chore){0};
        if (error == 0)
            control_answer(ticket, NULL);
        else
            control_refuse(ticket, "failed", "it was ended by a signal");
    } else {
        return false;
    }
    return true;
}
