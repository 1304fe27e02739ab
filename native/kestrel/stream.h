#ifndef KESTREL_STREAM_H
#define KESTREL_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

/* The streams of the one session there is. */

enum { STREAMS_MAX = 512, WINDOW_MAX = 262144, PAYLOAD_OUT_MAX = 16640, OPENINGS_MAX = 4194304 };

struct stream;

struct stream_kind {
    /* Bytes from the host. What is not reported by stream_consumed stays charged to the window. */
    void (*receive)(struct stream *stream, const uint8_t *bytes, size_t length);
    /* FIN from the host. */
    void (*host_ended)(struct stream *stream);
    /* Up to `room` bytes for the host; 0 when there is nothing now. */
    size_t (*produce)(struct stream *stream, uint8_t *to, size_t room);
    /* The stream is gone: both sides ended it in order, or it is lost by a reset or with its session. */
    void (*closed)(struct stream *stream, bool lost);
};

/* An opening message that is arriving. Its place is made once its length is known. */
struct opening {
    uint8_t head[MESSAGE_HEAD];
    uint32_t length; /* of what came, head included */
    uint32_t size;
    uint8_t *bytes;
};

struct stream {
    uint32_t id; /* 0: this place is free */
    uint32_t send_window;
    uint32_t receive_window;
    uint32_t unreturned; /* consumed and not yet given back */
    bool acknowledge;
    bool host_done;
    bool end_wanted; /* FIN once produce has nothing more */
    bool guest_done;
    bool reset_wanted; /* RST as soon as the channel takes it; nothing is passed on any more */
    const struct stream_kind *kind; /* NULL until the opening message came */
    void *owner;
    struct opening opening;
};

/* What the session does with a stream whose opening message is whole. Sets kind and owner, or violates. */
typedef void (*stream_opener)(struct stream *stream, const struct json *message);

void stream_consumed(struct stream *stream, size_t length);
void stream_end(struct stream *stream);

/* RST for the host; `closed` follows when it is sent. */
void stream_reset(struct stream *stream);

/* Answer the opening message with an error and end the stream. */
void stream_refuse(struct stream *stream, const char *code, const char *text);

/* The session, as the channel drives it. */
void session_begin(stream_opener opener);
void session_receive(const uint8_t *bytes, size_t length);
void session_end(void);
void session_violate(const char *reason);
bool session_is_open(void);
const char *session_violation(void);

/* Put frames into `to` while at least one of the largest size fits; the number of bytes put. */
size_t session_produce(uint8_t *to, size_t room);

#endif
