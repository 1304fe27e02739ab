#ifndef HOLDER_ACCOUNT_H
#define HOLDER_ACCOUNT_H

#include <sys/types.h>

/* The two files by which volantd knows the VM process again: process.json while it lives, exit.json when it has ended. */

void account_clear(int dir_fd);
void account_process(int dir_fd, pid_t pid);

/* `status` is wait's; `error` is NULL unless the program was never started. */
void account_exit(int dir_fd, int status, const char *error);

#endif
