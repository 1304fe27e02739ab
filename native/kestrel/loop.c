#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32 };

static int epoll_fd = -1;
static struct epoll_event batch[BATCH];
static int batch_count;
static struct timer *timers;

void loop_open(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

bool loop_watch(struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0;
}

void loop_close(struct watch *watch)
{
    if (watch->fd < 0)
        return;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    close(watch->fd);
    watch->fd = -1;
    for (int i = 0; i < batch_count; i++)
        if (batch[i].data.ptr == watch)
            batch[i].data.ptr = NULL;
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t uptime_ms(void)
{
    return read_clock(CLOCK_BOOTTIME) / 1000000u;
}

uint64_t wall_clock_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void timer_stop(struct timer *timer)
{
    if (!timer->armed)
        return;
    for (struct timer **at = &timers; *at != NULL; at = &(*at)->next) {
        if (*at == timer) {
            *at = timer->next;
            break;
        }
    }
    timer->armed = false;
}

void timer_set(struct timer *timer, uint64_t after_ms)
{
    timer_stop(timer);
    timer->due_ms = uptime_ms() + after_ms;
    timer->armed = true;
    timer->next = timers;
    timers = timer;
}

static int until_next_timer(int limit_ms)
{
    if (timers == NULL)
        return limit_ms;
    uint64_t due = timers->due_ms;
    for (struct timer *timer = timers->next; timer != NULL; timer = timer->next)
        if (timer->due_ms < due)
            due = timer->due_ms;
    uint64_t now = uptime_ms();
    uint64_t wait = due > now ? due - now : 0;
    if (wait > 3600000)
        wait = 3600000;
    /* One more, because the clock was cut to whole milliseconds and an early wake-up would only spin. */
    int wait_ms = wait == 0 ? 0 : (int)wait + 1;
    return limit_ms >= 0 && limit_ms < wait_ms ? limit_ms : wait_ms;
}

static void fire_due_timers(void)
{
    uint64_t now = uptime_ms();
    for (int i = 0; i < 256; i++) {
        struct timer *due = NULL;
        for (struct timer *timer = timers; timer != NULL; timer = timer->next)
            if (timer->due_ms <= now && (due == NULL || timer->due_ms < due->due_ms))
                due = timer;
        if (due == NULL)
            return;
        timer_stop(due);
        due->fire(due);
    }
}

void loop_step(int limit_ms)
{
    batch_count = epoll_wait(epoll_fd, batch, BATCH, until_next_timer(limit_ms));
    for (int i = 0; i < batch_count; i++) {
        struct watch *watch = batch[i].data.ptr;
        if (watch != NULL)
            watch->ready(watch, batch[i].events);
    }
    batch_count = 0;
    fire_due_timers();
}
