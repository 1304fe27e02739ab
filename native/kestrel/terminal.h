#ifndef KESTREL_TERMINAL_H
#define KESTREL_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "json.h"

/* Pseudo-terminals: ours is the end without a program. */

struct terminal {
    uint16_t rows;
    uint16_t cols;
    const char *term;
};

enum { TERMINAL_SIDE_MAX = 9999 };

/* The member `tty` of an opening message. False with the member at fault. */
bool terminal_read(const struct json *json, uint32_t node, struct terminal *terminal, char fault[FAULT_TEXT]);

/* Make one. Our end, which does not block, and the program's in `*program`; -1 with errno set. Both close on exec. */
int terminal_open(const struct terminal *terminal, int *program);

/* Rows and columns, 2 bytes each. False when they are out of range. */
bool terminal_resize(int fd, const uint8_t size[4]);

/* The character that the terminal takes for the end of file now. */
uint8_t terminal_end_character(int fd);

/* Signal the foreground process group, or that of `leader` when there is none. */
void terminal_signal(int fd, pid_t leader, int number);

#endif
