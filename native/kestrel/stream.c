#include "stream.h"

#include <stdlib.h>
#include <string.h>

#include "frame.h"

enum { PINGS_MAX = 16, RESETS_MAX = 1024 };

static struct {
    bool open;
    bool go_away;            /* to be sent */
    const char *violation;
    stream_opener opener;
    uint32_t highest_id;
    uint8_t head[FRAME_HEAD]; /* of the frame that is arriving */
    size_t head_length;
    struct frame frame;
    uint32_t payload_left;
    uint32_t pings[PINGS_MAX];
    size_t ping_count;
    uint32_t resets[RESETS_MAX];
    size_t reset_count;
    size_t turn; /* whose turn it is to send */
    size_t found; /* where the last one was that was looked for */
    size_t openings; /* bytes set aside for opening messages */
    struct stream streams[STREAMS_MAX];
} session;

static void free_opening(struct opening *opening)
{
    free(opening->bytes);
    session.openings -= opening->size;
    *opening = (struct opening){0};
}

static void free_stream(struct stream *stream)
{
    free_opening(&stream->opening);
    memset(stream, 0, sizeof *stream);
}

static void lose_stream(struct stream *stream)
{
    if (stream->kind != NULL)
        stream->kind->closed(stream, true);
    free_stream(stream);
}

static void finish_stream(struct stream *stream)
{
    if (!stream->host_done || !stream->guest_done)
        return;
    stream->kind->closed(stream, false);
    free_stream(stream);
}

static void drop_streams(void)
{
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (session.streams[i].id != 0)
            lose_stream(&session.streams[i]);
}

void session_begin(stream_opener opener)
{
    session_end();
    session.open = true;
    session.violation = NULL;
    session.go_away = false;
    session.opener = opener;
    session.highest_id = 0;
    session.head_length = 0;
    session.payload_left = 0;
    session.ping_count = 0;
    session.reset_count = 0;
    session.turn = 0;
    session.found = 0;
}

void session_end(void)
{
    session.open = false;
    drop_streams();
}

void session_violate(const char *reason)
{
    if (!session.open)
        return;
    session.violation = reason;
    session.go_away = true;
    session.ping_count = 0;
    session.reset_count = 0;
    session_end();
}

bool session_is_open(void)
{
    return session.open;
}

const char *session_violation(void)
{
    return session.violation;
}

void stream_consumed(struct stream *stream, size_t length)
{
    stream->unreturned += (uint32_t)length;
}

void stream_end(struct stream *stream)
{
    stream->end_wanted = true;
}

void stream_reset(struct stream *stream)
{
    stream->reset_wanted = true;
}

static struct stream *find_stream(uint32_t id)
{
    if (id != 0 && session.streams[session.found].id == id) /* frames come in runs */
        return &session.streams[session.found];
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        if (session.streams[i].id == id) {
            session.found = i;
            return &session.streams[i];
        }
    }
    return NULL;
}

static void reset_later(uint32_t id)
{
    if (session.reset_count == RESETS_MAX)
        session_violate("resets");
    else
        session.resets[session.reset_count++] = id;
}

static struct stream *open_stream(const struct frame *frame)
{
    if (frame->stream % 2 == 0 || frame->stream <= session.highest_id) {
        session_violate("bad_stream");
        return NULL;
    }
    session.highest_id = frame->stream;
    struct stream *stream = find_stream(0);
    if (stream == NULL) {
        reset_later(frame->stream);
        return NULL;
    }
    *stream = (struct stream){.id = frame->stream, .send_window = WINDOW_MAX, .receive_window = WINDOW_MAX, .acknowledge = true};
    return stream;
}

/* What a frame's head asks for, before its payload. */
static void take_head(const struct frame *frame)
{
    if (frame->type == FRAME_PING) {
        if ((frame->flags & FLAG_SYN) == 0)
            return;
        if (session.ping_count == PINGS_MAX)
            session_violate("pings");
        else
            session.pings[session.ping_count++] = frame->length;
        return;
    }
    if (frame->type == FRAME_GO_AWAY) {
        session_end();
        return;
    }
    struct stream *stream = (frame->flags & FLAG_SYN) != 0 ? open_stream(frame) : find_stream(frame->stream);
    if (stream == NULL || !session.open)
        return;
    if (frame->type == FRAME_WINDOW) {
        if (frame->length > WINDOW_MAX - stream->send_window) {
            session_violate("window");
            return;
        }
        stream->send_window += frame->length;
        return;
    }
    if (frame->length > 0 && stream->host_done)
        session_violate("after_fin");
    else if (frame->length > stream->receive_window)
        session_violate("window");
    else
        stream->receive_window -= frame->length;
}

/* Take what belongs to the opening message; the number of bytes, and what has come of it. */
static enum message_state fill_opening(struct stream *stream, const uint8_t *bytes, size_t length, size_t *taken)
{
    struct opening *opening = &stream->opening;
    *taken = 0;
    while (opening->length < MESSAGE_HEAD && *taken < length)
        opening->head[opening->length++] = bytes[(*taken)++];
    if (opening->length < MESSAGE_HEAD)
        return MESSAGE_INCOMPLETE;
    if (opening->bytes == NULL) {
        uint32_t size = load_u32(opening->head);
        if (size == 0 || size > MESSAGE_MAX)
            return MESSAGE_BAD;
        opening->bytes = session.openings + size > OPENINGS_MAX ? NULL : malloc(size);
        if (opening->bytes == NULL) {
            stream_reset(stream);
            return MESSAGE_INCOMPLETE;
        }
        opening->size = size;
        session.openings += size;
    }
    size_t missing = MESSAGE_HEAD + opening->size - opening->length, part = length - *taken < missing ? length - *taken : missing;
    memcpy(opening->bytes + opening->length - MESSAGE_HEAD, bytes + *taken, part);
    opening->length += (uint32_t)part;
    *taken += part;
    return part == missing ? MESSAGE_WHOLE : MESSAGE_INCOMPLETE;
}

static void collect_opening(struct stream *stream, const uint8_t *bytes, size_t length)
{
    static struct json message;
    size_t taken;
    enum message_state state = fill_opening(stream, bytes, length, &taken);
    stream_consumed(stream, taken);
    if (state == MESSAGE_INCOMPLETE)
        return;
    if (state == MESSAGE_BAD || !json_parse(&message, (char *)stream->opening.bytes, stream->opening.size)) {
        session_violate("message");
        return;
    }
    session.opener(stream, &message);
    if (!session.open)
        return;
    free_opening(&stream->opening);
    if (taken < length && !stream->reset_wanted)
        stream->kind->receive(stream, bytes + taken, length - taken);
}

static void take_payload(const struct frame *frame, const uint8_t *bytes, size_t length)
{
    struct stream *stream = find_stream(frame->stream);
    if (stream == NULL || stream->reset_wanted)
        return;
    if (stream->kind != NULL)
        stream->kind->receive(stream, bytes, length);
    else
        collect_opening(stream, bytes, length);
}

static void take_end(const struct frame *frame)
{
    struct stream *stream = frame->type <= FRAME_WINDOW ? find_stream(frame->stream) : NULL;
    if (stream == NULL)
        return;
    if ((frame->flags & FLAG_RST) != 0) {
        lose_stream(stream);
    } else if ((frame->flags & FLAG_FIN) != 0 && !stream->host_done) {
        stream->host_done = true;
        if (stream->reset_wanted) {
            return;
        } else if (stream->kind != NULL) {
            stream->kind->host_ended(stream);
        } else { /* ended before it said what it is */
            reset_later(stream->id);
            free_stream(stream);
        }
        if (session.open && stream->id != 0)
            finish_stream(stream);
    }
}

void session_receive(const uint8_t *bytes, size_t length)
{
    while (length > 0 && session.open) {
        if (session.payload_left > 0) {
            size_t taken = length < session.payload_left ? length : session.payload_left;
            session.payload_left -= (uint32_t)taken;
            take_payload(&session.frame, bytes, taken);
            bytes += taken;
            length -= taken;
        } else {
            size_t missing = FRAME_HEAD - session.head_length;
            size_t taken = length < missing ? length : missing;
            memcpy(session.head + session.head_length, bytes, taken);
            session.head_length += taken;
            bytes += taken;
            length -= taken;
            if (session.head_length < FRAME_HEAD)
                return;
            session.head_length = 0;
            const char *fault = frame_decode(session.head, &session.frame);
            if (fault != NULL) {
                session_violate(fault);
                return;
            }
            session.payload_left = session.frame.type == FRAME_DATA ? session.frame.length : 0;
            take_head(&session.frame);
        }
        if (session.payload_left == 0 && session.open)
            take_end(&session.frame);
    }
}

static size_t put_frame(uint8_t *to, enum frame_type type, uint16_t flags, uint32_t stream, uint32_t length)
{
    frame_encode(&(struct frame){type, flags, stream, length}, to);
    return FRAME_HEAD;
}

static size_t produce_for_session(uint8_t *to)
{
    if (session.go_away) {
        session.go_away = false;
        return put_frame(to, FRAME_GO_AWAY, 0, 0, GO_AWAY_PROTOCOL);
    }
    if (session.ping_count > 0) {
        uint32_t value = session.pings[0];
        memmove(session.pings, session.pings + 1, --session.ping_count * sizeof session.pings[0]);
        return put_frame(to, FRAME_PING, FLAG_ACK, 0, value);
    }
    if (session.reset_count > 0)
        return put_frame(to, FRAME_WINDOW, FLAG_RST, session.resets[--session.reset_count], 0);
    return 0;
}

static size_t put_reset(struct stream *stream, uint8_t *to)
{
    size_t length = put_frame(to, FRAME_WINDOW, FLAG_RST, stream->id, 0);
    lose_stream(stream);
    return length;
}

static size_t produce_for_stream(struct stream *stream, uint8_t *to)
{
    if (stream->reset_wanted)
        return put_reset(stream, to);
    if (stream->acknowledge || stream->unreturned >= WINDOW_MAX / 4) {
        uint16_t flags = stream->acknowledge ? FLAG_ACK : 0;
        uint32_t given = stream->unreturned;
        stream->acknowledge = false;
        stream->unreturned = 0;
        stream->receive_window += given;
        return put_frame(to, FRAME_WINDOW, flags, stream->id, given);
    }
    if (stream->kind == NULL || stream->guest_done)
        return 0;
    size_t room = stream->send_window < PAYLOAD_OUT_MAX ? stream->send_window : PAYLOAD_OUT_MAX;
    size_t length = room > 0 ? stream->kind->produce(stream, to + FRAME_HEAD, room) : 0;
    if (length > 0) {
        stream->send_window -= (uint32_t)length;
        put_frame(to, FRAME_DATA, 0, stream->id, (uint32_t)length);
        return FRAME_HEAD + length;
    }
    if (stream->reset_wanted)
        return put_reset(stream, to);
    if (room == 0 || !stream->end_wanted)
        return 0;
    put_frame(to, FRAME_DATA, FLAG_FIN, stream->id, 0);
    stream->guest_done = true;
    finish_stream(stream);
    return FRAME_HEAD;
}

static size_t produce_one(uint8_t *to)
{
    size_t length = produce_for_session(to);
    for (size_t i = 0; i < STREAMS_MAX && length == 0 && session.open; i++) {
        /* Place 0 is control's and goes first, the others take turns. */
        size_t place = i == 0 ? 0 : 1 + (session.turn + i) % (STREAMS_MAX - 1);
        if (session.streams[place].id != 0) {
            length = produce_for_stream(&session.streams[place], to);
            if (length > 0 && i > 0)
                session.turn = place - 1;
        }
    }
    return length;
}

size_t session_produce(uint8_t *to, size_t room)
{
    size_t length = 0;
    while (room - length >= FRAME_HEAD + PAYLOAD_OUT_MAX) {
        size_t put = produce_one(to + length);
        if (put == 0)
            break;
        length += put;
    }
    return length;
}
