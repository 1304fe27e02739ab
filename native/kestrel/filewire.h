#ifndef KESTREL_FILEWIRE_H
#define KESTREL_FILEWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

/* The child's end of a files stream: it may block, as kestrel may not, and ends itself when the host is gone. */

enum { FILE_ENTRY = 0, FILE_CONTENT = 1, FILE_END = 2, FILE_PIECE = 32768 };

/* The socket to kestrel. */
void filewire_open(int fd);

/* What to do first however it ends. */
void filewire_at_end(void (*tidy)(void));

/* The answer to the opening message. */
void filewire_accept(void);
_Noreturn void filewire_refuse(const char *code, const char *text);

/* Room for a record's bytes, RECORD_MAX of them; what was put there is sent as one record. */
uint8_t *filewire_room(void);
void filewire_send(uint8_t type, size_t length);

/* The last record: how much was done, or why it ended. Waits for the host to end its side. */
struct file_counts {
    uint64_t entries;
    uint64_t bytes;
    uint64_t skipped;
    uint64_t torn;
};
_Noreturn void filewire_finish(const struct file_counts *counts);
_Noreturn void filewire_fail(const char *code, const char *text, const char *path);

/* The protocol's code for an error number. */
const char *filewire_code(int error);

/* The next record from the host. The bytes hold until the next call; there is a free one behind them.
   A host that breaks the rules is told so, and that is the end. */
uint8_t filewire_receive(uint8_t **bytes, size_t *length);

#endif
