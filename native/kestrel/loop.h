#ifndef KESTREL_LOOP_H
#define KESTREL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* One epoll set and a list of timers. Nothing wakes it when nothing is to do. */

struct watch {
    int fd;
    void (*ready)(struct watch *watch, uint32_t events);
    void *owner;
};

struct timer {
    uint64_t due_ms;
    bool armed;
    void (*fire)(struct timer *timer);
    void *owner;
    struct timer *next;
};

void loop_open(void);

/* `events` are epoll's. False with errno set when the kernel refuses the descriptor. */
bool loop_watch(struct watch *watch, uint32_t events);

/* Stop watching and close the descriptor; does nothing when fd is -1. */
void loop_close(struct watch *watch);

void timer_set(struct timer *timer, uint64_t after_ms);
void timer_stop(struct timer *timer);

/* Wait for something to happen, at most `limit_ms` (-1: for ever), and deal with it. */
void loop_step(int limit_ms);

/* Milliseconds since boot, sleep included. */
uint64_t uptime_ms(void);
uint64_t wall_clock_ns(void);

#endif
