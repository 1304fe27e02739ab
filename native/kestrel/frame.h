#ifndef KESTREL_FRAME_H
#define KESTREL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* yamux, version 0. */

enum frame_type { FRAME_DATA, FRAME_WINDOW, FRAME_PING, FRAME_GO_AWAY };
enum { FLAG_SYN = 1, FLAG_ACK = 2, FLAG_FIN = 4, FLAG_RST = 8 };
enum { FRAME_HEAD = 12, FRAME_PAYLOAD_MAX = 65536 };
enum { GO_AWAY_NORMAL = 0, GO_AWAY_PROTOCOL = 1 };

struct frame {
    enum frame_type type;
    uint16_t flags;
    uint32_t stream;
    uint32_t length;
};

/* NULL when the head is good, else what is wrong with it. */
const char *frame_decode(const uint8_t head[FRAME_HEAD], struct frame *frame);
void frame_encode(const struct frame *frame, uint8_t head[FRAME_HEAD]);

uint16_t load_u16(const uint8_t *from);
uint32_t load_u32(const uint8_t *from);
void store_u16(uint8_t *to, uint16_t value);
void store_u32(uint8_t *to, uint32_t value);
void store_u64(uint8_t *to, uint64_t value);

#endif
