#include "hook.h"

#include "asking.h"
#include "loop.h"

enum { AGAIN_MS = 100 };

static void on_answer(struct asking *asking, bool well, const char *message);

static struct {
    struct asking asking;
    struct timer again;
    const struct question *question;
    const struct command *workload;
    uint64_t until_ms;
    bool patient;
    void (*done)(bool well, const char *message);
} hook = {.asking = {.answered = on_answer}};

static void ask(struct timer *timer)
{
    uint64_t now = uptime_ms();
    (void)timer;
    asking_begin(&hook.asking, hook.question, hook.workload, hook.until_ms > now ? (uint32_t)(hook.until_ms - now) : 1);
}

static void on_answer(struct asking *asking, bool well, const char *message)
{
    if (!well && asking->refused && hook.patient && uptime_ms() + AGAIN_MS < hook.until_ms)
        timer_set(&hook.again, AGAIN_MS);
    else
        hook.done(well, message);
}

void hook_run(const struct question *question, const struct command *workload, uint32_t timeout_ms, bool patient,
              void (*done)(bool well, const char *message))
{
    hook_stop();
    hook.question = question;
    hook.workload = workload;
    hook.until_ms = uptime_ms() + timeout_ms;
    hook.patient = patient;
    hook.done = done;
    hook.again.fire = ask;
    ask(&hook.again);
}

void hook_stop(void)
{
    timer_stop(&hook.again);
    asking_stop(&hook.asking);
}
