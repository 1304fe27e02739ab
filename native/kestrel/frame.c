#include "frame.h"

uint16_t load_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] << 8 | from[1]);
}

uint32_t load_u32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

void store_u16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

void store_u32(uint8_t *to, uint32_t value)
{
    store_u16(to, (uint16_t)(value >> 16));
    store_u16(to + 2, (uint16_t)value);
}

void store_u64(uint8_t *to, uint64_t value)
{
    store_u32(to, (uint32_t)(value >> 32));
    store_u32(to + 4, (uint32_t)value);
}

const char *frame_decode(const uint8_t head[FRAME_HEAD], struct frame *frame)
{
    if (head[0] != 0)
        return "bad_version";
    if (head[1] > FRAME_GO_AWAY)
        return "bad_type";
    frame->type = (enum frame_type)head[1];
    frame->flags = load_u16(head + 2);
    frame->stream = load_u32(head + 4);
    frame->length = load_u32(head + 8);
    if ((frame->flags & ~(FLAG_SYN | FLAG_ACK | FLAG_FIN | FLAG_RST)) != 0)
        return "bad_flags";
    bool of_session = frame->type == FRAME_PING || frame->type == FRAME_GO_AWAY;
    if (of_session != (frame->stream == 0))
        return "bad_stream";
    if (frame->type == FRAME_DATA && frame->length > FRAME_PAYLOAD_MAX)
        return "too_long";
    return NULL;
}

void frame_encode(const struct frame *frame, uint8_t head[FRAME_HEAD])
{
    head[0] = 0;
    head[1] = (uint8_t)frame->type;
    store_u16(head + 2, frame->flags);
    store_u32(head + 4, frame->stream);
    store_u32(head + 8, frame->length);
}
