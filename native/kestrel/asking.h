#ifndef KESTREL_ASKING_H
#define KESTREL_ASKING_H

#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "loop.h"
#include "program.h"

/* One question put to the workload, and its answer: for probes and hooks. Bounded in time, and in what is kept of the answer. */

enum { ASKING_ANSWER_SIZE = 128 };

struct asking {
    /* Called once for each asking_begin unless it is stopped, perhaps before that returns. `message` is a short line. */
    void (*answered)(struct asking *asking, bool well, const char *message);
    const struct question *question;
    bool busy;
    bool refused; /* nobody listened */
    struct watch socket;
    bool sent;
    char answer[ASKING_ANSWER_SIZE];
    size_t answer_length;
    struct timer timeout;
    uint32_t timeout_ms;
    pid_t pid; /* 0 once reaped, which may be after the answer */
    struct program_label label;
    struct watch report;
    struct watch output[2];
    size_t output_length;
    struct asking *next; /* of all whose program has not been reaped */
};

/* The answer is waited for `timeout_ms`. `workload` gives programs their user, environment and limits. */
void asking_begin(struct asking *asking, const struct question *question, const struct command *workload, uint32_t timeout_ms);

/* Nobody wants to know any more. A program is killed, with its group. */
void asking_stop(struct asking *asking);

/* A child ended; false when it is none of ours. */
bool asking_reaped(pid_t pid, int status);

/* Signal the process group of every program that was asked. */
void asking_signal_all(int number);

#endif
