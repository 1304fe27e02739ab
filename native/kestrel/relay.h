#ifndef KESTREL_RELAY_H
#define KESTREL_RELAY_H

#include <stdbool.h>

#include "outlet.h"
#include "staged.h"
#include "stream.h"

/* A stream's bytes to and from a socket, unchanged: a connection, the child that reads or writes files. */

struct relay {
    struct stream *stream; /* NULL once it is gone */
    struct watch input;    /* from the socket */
    bool begun;
    bool readable;
    bool input_ended;
    struct outlet outlet; /* to the socket; what the host says before there is one is held */
    struct staged staged; /* the answer to the opening message */
    struct timer linger;
    /* Nothing of it is left: `relay` may be freed. */
    void (*gone)(struct relay *relay);
};

/* Make the stream this relay's. `relay` is zeroed but for `gone`. */
void relay_open(struct relay *relay, struct stream *stream);

/* Begin with this socket, which is taken and must not block. `answer`: say `{"ok":{}}` first; else what comes from it answers. */
void relay_begin(struct relay *relay, int fd, bool answer);

/* Answer with an error and end the stream. */
void relay_refuse(struct relay *relay, const char *code, const char *text);

#endif
