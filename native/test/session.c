#include "session.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "control.h"
#include "frame.h"
#include "stream.h"
#include "talk.h"
#include "vectors.h"

/* Every session vector, fed in pieces of several sizes, through the whole agent. */
void test_session(size_t chunk)
{
    static uint8_t out[4 * (PAYLOAD_OUT_MAX + FRAME_HEAD)];
    static uint8_t sent[1u << 20];
    for (size_t i = 0; i < COUNT(SESSION_CASES); i++) {
        const struct session_case *c = &SESSION_CASES[i];
        size_t length = 0;
        session_begin(control_open_stream);
        for (size_t at = 0; at <= c->stream.length; at += chunk) {
            size_t part = c->stream.length - at < chunk ? c->stream.length - at : chunk;
            uint8_t *own = copy(c->stream.bytes + at, part);
            session_receive(own, part);
            free(own);
            for (size_t put_length; (put_length = session_produce(out, sizeof out)) > 0; length += put_length)
                memcpy(sent + length, out, put_length);
        }
        const char *violation = session_violation();
        check((violation == NULL) == (c->violation == NULL) && (violation == NULL || strcmp(violation, c->violation) == 0), "session", c->name,
              violation == NULL ? "no violation" : violation);
        static const uint8_t GO_AWAY[FRAME_HEAD] = {0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
        bool said = length >= FRAME_HEAD && memcmp(sent + length - FRAME_HEAD, GO_AWAY, FRAME_HEAD) == 0;
        check(said == (c->violation != NULL), "session", c->name, "Go Away");
        for (size_t a = 0; a < c->answers.length; a += FRAME_HEAD) {
            bool found = false;
            for (size_t s = 0; s + FRAME_HEAD <= length;) {
                struct frame frame;
                found = found || memcmp(sent + s, c->answers.bytes + a, FRAME_HEAD) == 0;
                if (frame_decode(sent + s, &frame) != NULL)
                    break;
                s += FRAME_HEAD + (frame.type == FRAME_DATA ? frame.length : 0);
            }
            check(found, "session", c->name, "an answer is missing");
        }
        session_end();
    }
}

/* Every request vector whose answers are there at once. */
void test_request(void)
{
    static struct json json;
    for (size_t i = 0; i < COUNT(REQUEST_CASES); i++) {
        const struct request_case *c = &REQUEST_CASES[i];
        talk_begin();
        for (size_t s = 0; s < c->step_count; s++) {
            const struct request_step *step = &c->steps[s];
            talk_send(step->request.bytes, step->request.length);
            if (!talk_find(&json, (int64_t)s + 1)) {
                check(false, "request", c->name, "no answer");
                continue;
            }
            uint32_t ok = json_member(&json, 0, "ok"), error = json_member(&json, 0, "error");
            struct text text = {0};
            check((ok != 0) == (step->ok != NULL) && (error != 0) == (step->error != NULL), "request", c->name, "answer or error");
            if (ok != 0 && step->ok != NULL) {
                flatten(&json, ok, &text);
                check(strcmp(text.bytes, step->ok) == 0, "request", c->name, text.bytes);
            } else if (error != 0 && step->error != NULL) {
                const char *code = json_text(&json, json_member(&json, error, "code"));
                const char *message = json_text(&json, json_member(&json, error, "message"));
                check(code != NULL && strcmp(code, step->error) == 0, "request", c->name, "code");
                check(message != NULL && strncmp(message, step->about, strlen(step->about)) == 0, "request", c->name, "message");
            }
        }
        check(session_violation() == NULL, "request", c->name, "violation");
        talk_end();
    }
}

/* Streams that have no end of things to say, and one that has little. */
static uint32_t small_talk;

static void ignore(struct stream *stream, const uint8_t *bytes, size_t length)
{
    (void)bytes;
    stream_consumed(stream, length);
}

static void ignore_end(struct stream *stream)
{
    (void)stream;
}

static size_t talk(struct stream *stream, uint8_t *to, size_t room)
{
    size_t length = stream->id != small_talk ? room : room < 3 ? room : 3;
    memset(to, 'x', length);
    return length;
}

static void ignore_close(struct stream *stream, bool lost)
{
    (void)stream;
    (void)lost;
}

static const struct stream_kind TALKER = {ignore, ignore_end, talk, ignore_close};

static void open_talker(struct stream *stream, const struct json *message)
{
    (void)message;
    stream->kind = &TALKER;
}

/* Whoever has something to say says it before anybody says a second thing, however much the others have. */
void test_turns(void)
{
    enum { TALKERS = 200 };
    static uint8_t out[FRAME_HEAD + PAYLOAD_OUT_MAX];
    static const uint8_t OPENING[] = {0, 0, 0, 2, '{', '}'};
    static uint32_t said[2 * TALKERS + 2];
    uint8_t head[FRAME_HEAD];
    small_talk = 2 * (TALKERS / 2) + 1;
    memset(said, 0, sizeof said);
    session_begin(open_talker);
    for (uint32_t id = 1; id <= 2 * TALKERS; id += 2) {
        frame_encode(&(struct frame){FRAME_DATA, FLAG_SYN, id, sizeof OPENING}, head);
        session_receive(head, sizeof head);
        session_receive(OPENING, sizeof OPENING);
    }
    for (int i = 0; i < 8 * TALKERS && session_produce(out, sizeof out) > 0; i++) {
        struct frame frame;
        if (frame_decode(out, &frame) != NULL || frame.type != FRAME_DATA)
            continue;
        said[frame.stream]++;
        uint32_t least = UINT32_MAX, most = 0;
        for (uint32_t id = 3; id <= 2 * TALKERS; id += 2) { /* the first one is control's and goes first */
            least = said[id] < least ? said[id] : least;
            most = said[id] > most ? said[id] : most;
        }
        check(most - least <= 1, "turns", "flood", "a stream was passed over");
    }
    check(said[small_talk] >= 3, "turns", "flood", "the small one was not heard");
    session_end();
}
