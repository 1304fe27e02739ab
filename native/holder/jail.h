#ifndef HOLDER_JAIL_H
#define HOLDER_JAIL_H

#include <sys/types.h>

#include "options.h"

/* What a failed start leaves in the report pipe: what was tried, and errno. */
struct jail_fault {
    int error;
    char what[60];
};

/* In the child: namespaces, descriptors, user, rights; then the program. Never returns. */
_Noreturn void jail_enter(const struct options *options, int output_fd, int report_fd, pid_t holder);

/* In the holder: keep the right to kill the child, and nothing else. */
void jail_drop_own_rights(void);

#endif
