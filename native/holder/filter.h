#ifndef HOLDER_FILTER_H
#define HOLDER_FILTER_H

/*
 * System call filters (seccomp(2)), for all threads of the caller and for good. Both refuse other architectures' calls by
 * death. They return NULL, or what could not be done, with errno.
 */

/* For a VM process: what no hypervisor needs fails with EPERM, and what only an attack would try is the end. */
const char *filter_program(void);

/* For the holder, once its child runs: what it does, and nothing else. */
const char *filter_holder(void);

#endif
