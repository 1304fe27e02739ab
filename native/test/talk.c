#include "talk.h"

#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "frame.h"
#include "message.h"
#include "stream.h"

static struct {
    size_t length;
    uint8_t bytes[1u << 16];
} said;

void talk_hear(void)
{
    static uint8_t out[4 * (PAYLOAD_OUT_MAX + FRAME_HEAD)];
    for (size_t length; (length = session_produce(out, sizeof out)) > 0;) {
        for (size_t at = 0; at < length;) {
            struct frame frame;
            if (frame_decode(out + at, &frame) != NULL)
                abort();
            at += FRAME_HEAD;
            if (frame.type != FRAME_DATA)
                continue;
            memcpy(said.bytes + said.length, out + at, frame.length);
            said.length += frame.length;
            at += frame.length;
        }
    }
}

static void tell(uint16_t flags, const uint8_t *bytes, size_t length)
{
    uint8_t head[FRAME_HEAD];
    frame_encode(&(struct frame){FRAME_DATA, flags, 1, (uint32_t)length}, head);
    session_receive(head, sizeof head);
    session_receive(bytes, length);
    talk_hear();
}

void talk_begin(void)
{
    static const char OPENING[] = "\0\0\0\x2e{\"open\":\"control\",\"versions\":[1],\"client\":\"t\"}";
    said.length = 0;
    session_begin(control_open_stream);
    tell(FLAG_SYN, (const uint8_t *)OPENING, sizeof OPENING - 1);
}

void talk_end(void)
{
    session_end();
}

void talk_send(const uint8_t *bytes, size_t length)
{
    tell(0, bytes, length);
}

bool talk_find(struct json *json, int64_t number)
{
    static struct message_buffer buffer;
    size_t taken;
    for (size_t at = 0; at < said.length; at += taken) {
        int64_t found;
        buffer.length = 0;
        if (message_collect(&buffer, said.bytes + at, said.length - at, &taken) != MESSAGE_WHOLE || !message_decode(&buffer, json))
            return false;
        if (json_integer(json, json_member(json, 0, "re"), &found) && found == number)
            return true;
    }
    return false;
}
