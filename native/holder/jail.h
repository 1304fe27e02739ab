#ifndef HOLDER_JAIL_H
#define HOLDER_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "options.h"

/* What a failed start leaves in the report pipe: what was tried, and errno. */
struct jail_fault {
    int error;
    char what[60];
};

/*
 * In the child, which is the first of a process namespace: control groups, descriptors, namespaces, root, user, rights, filter;
 * then the program. Never returns. `is_born_there`: it is in its group of version 2 already.
 */
_Noreturn void jail_enter(const struct options *options, int output_fd, int report_fd, bool is_born_there);

/* In the holder: keep the right to kill the child, the system calls for what it does, and nothing else. */
void jail_drop_own_rights(void);

#endif
