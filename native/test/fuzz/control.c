/* The control stream and every opening message, through the agent as it is before it is configured. What a request asks for is only read. */

#include "config.h"
#include "control.h"
#include "frame.h"
#include "fuzz.h"
#include "message.h"
#include "request.h"
#include "stream.h"

/* In the place of request.c. */
void request_take(struct ticket ticket, const struct json *message)
{
    const char *type = json_text(message, json_member(message, 0, "type"));
    int64_t number;
    if (type == NULL)
        control_refuse(ticket, "malformed", "type: missing");
    else if (json_integer(message, json_member(message, 0, "number"), &number))
        control_answer_flag(ticket, type, number > 0);
    else
        control_answer(ticket, NULL);
}

static void send_frame(uint16_t flags, uint32_t stream, const uint8_t *bytes, size_t length)
{
    uint8_t head[FRAME_HEAD];
    uint8_t *own = fuzz_copy(bytes, length);
    frame_encode(&(struct frame){FRAME_DATA, flags, stream, (uint32_t)length}, head);
    session_receive(head, sizeof head);
    session_receive(own, length);
    free(own);
}

/* The input is what the host says on two streams, each piece behind a byte that gives its stream and length. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t out[2 * (PAYLOAD_OUT_MAX + FRAME_HEAD)];
    static const char OPENING[] = "\0\0\0\x2e{\"open\":\"control\",\"versions\":[1],\"client\":\"t\"}";
    bool opened = false;
    session_begin(control_open_stream);
    send_frame(FLAG_SYN, 1, (const uint8_t *)OPENING, sizeof OPENING - 1);
    for (size_t at = 0; at + 1 < size && session_is_open();) {
        bool beside = (bytes[at] & 1) != 0;
        size_t wanted = 4 * (size_t)(bytes[at] >> 1) + 1, left = size - at - 1, length = left < wanted ? left : wanted;
        send_frame(beside && !opened ? FLAG_SYN : 0, beside ? 3 : 1, bytes + at + 1, length);
        opened = opened || beside;
        at += 1 + length;
        while (session_produce(out, sizeof out) > 0)
            continue;
    }
    session_end();
    return 0;
}
