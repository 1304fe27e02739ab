/* A clock that stands still. What measures durations (CLOCK_MONOTONIC) runs. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "next.h"
#include "tree.h"

static bool stopped;
static time_t now_s;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_clock(void)
{
    stopped = getenv("VOLANT_SETTLE_TIME_S") != NULL;
    now_s = (time_t)tree_read_number("VOLANT_SETTLE_TIME_S", 0);
}

static bool is_stopped(void)
{
    pthread_once(&once, read_clock);
    return stopped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    FIND_NEXT(next_clock_gettime, clock_gettime)
    if ((clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE && clock != CLOCK_TAI) || !is_stopped())
        return next_clock_gettime(clock, now);
    *now = (struct timespec){.tv_sec = now_s};
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    FIND_NEXT(next_gettimeofday, gettimeofday)
    if (!is_stopped())
        return next_gettimeofday(now, zone);
    *now = (struct timeval){.tv_sec = now_s};
    return 0;
}

time_t time(time_t *now)
{
    FIND_NEXT(next_time, time)
    if (!is_stopped())
        return next_time(now);
    if (now != NULL)
        *now = now_s;
    return now_s;
}
