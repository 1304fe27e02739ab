/* Prints the rate of the time stamp counter in kHz, measured against CLOCK_MONOTONIC_RAW over a tenth of a second. */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct reading {
    unsigned long long ticks, ns;
};

/* Of several readings the one whose two halves lie closest together, so that an interruption between them does not count. */
static struct reading read_both(void) {
    struct reading best = {0, 0};
    unsigned long long narrowest = ~0ULL;
    for (int i = 0; i < 32; i++) {
        struct timespec now;
        unsigned long long before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        unsigned long long width = __rdtsc() - before;
        if (width < narrowest) {
            narrowest = width;
            best.ticks = before + width / 2;
            best.ns = (unsigned long long)now.tv_sec * 1000000000ULL + (unsigned long long)now.tv_nsec;
        }
    }
    return best;
}

int main(void) {
    struct timespec pause = {0, 100000000};
    struct reading first = read_both();
    nanosleep(&pause, NULL);
    struct reading last = read_both();
    if (last.ns <= first.ns || last.ticks <= first.ticks) return 1;
    return printf("%llu\n", (last.ticks - first.ticks) * 1000000ULL / (last.ns - first.ns)) < 0;
}
