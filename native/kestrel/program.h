#ifndef KESTREL_PROGRAM_H
#define KESTREL_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "terminal.h"

/* Starting a program beside or as the workload: own session, clean signals, closed descriptors, its user's rights. */

struct program {
    pid_t pid;
    int stdin_fd; /* -1 when it got /dev/null */
    int stdout_fd;
    int stderr_fd;
    int report_fd; /* ends empty once the program runs, or holds a program_fault */
};

enum program_stage { STAGE_SETUP = 1, STAGE_USER, STAGE_RIGHTS, STAGE_WORKDIR, STAGE_LIMITS, STAGE_PROGRAM };

struct program_fault {
    int32_t stage;
    int32_t error;
};

/* `base` gives what `command` leaves out, and its variables come first; NULL for the workload itself.
   False with errno set. All descriptors do not block and close on exec. */
bool program_start(const struct command *command, const struct command *base, bool with_stdin, struct program *program);

/* The same on a terminal of its own, as the leader of a new session: `stdin_fd` and `stdout_fd` are both our end, `stderr_fd` is -1. */
bool program_start_on_terminal(const struct command *command, const struct command *base, const struct terminal *terminal,
                               struct program *program);

/* Read the report: 0 still starting, 1 runs, -1 failed and `fault` is set. */
int program_outcome(int report_fd, struct program_fault *fault);

/* What was asked for, kept for a later explanation and cut where it is long. */
struct program_label {
    char program[96];
    char user[64];
    char workdir[96];
};

void program_label(const struct command *command, const struct command *base, struct program_label *label);

/* The protocol's error code, and a sentence. */
const char *program_explain(const struct program_fault *fault, const struct program_label *label, char *text, size_t size);

#endif
