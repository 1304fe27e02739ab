#include "preamble.h"

#include <string.h>

enum { MAGIC_SIZE = 8 };
static const uint8_t MAGIC[MAGIC_SIZE] = {'V', 'O', 'L', 'A', 'N', 'T', 0, 1};
static const uint8_t ECHO_MAGIC[MAGIC_SIZE] = {'V', 'O', 'L', 'A', 'N', 'T', 1, 1};

static bool is_match(const struct preamble *preamble, const uint8_t *bytes, size_t length)
{
    if (memcmp(bytes, MAGIC, length < MAGIC_SIZE ? length : MAGIC_SIZE) != 0)
        return false;
    uint8_t difference = 0;
    for (size_t i = MAGIC_SIZE; i < length && i < MAGIC_SIZE + SECRET_SIZE; i++)
        difference |= (uint8_t)(bytes[i] ^ preamble->secret[i - MAGIC_SIZE]);
    return difference == 0;
}

void preamble_release(struct preamble *preamble, const struct preamble_sink *sink)
{
    size_t length = preamble->held_length;
    preamble->held_length = 0;
    if (length > 0)
        sink->bytes(sink->owner, preamble->held, length);
}

void preamble_feed(struct preamble *preamble, const uint8_t *bytes, size_t length, const struct preamble_sink *sink)
{
    if (length == 0)
        return;
    size_t missing = PREAMBLE_SIZE - preamble->held_length;
    size_t taken = length < missing ? length : missing;
    size_t had = preamble->held_length;
    memcpy(preamble->held + had, bytes, taken);
    if (!is_match(preamble, preamble->held, had + taken)) {
        preamble_release(preamble, sink);
        if (had > 0)
            preamble_feed(preamble, bytes, length, sink); /* this read may be a beginning of its own */
        else
            sink->bytes(sink->owner, bytes, length);
        return;
    }
    preamble->held_length = had + taken;
    if (preamble->held_length < PREAMBLE_SIZE)
        return;
    preamble->held_length = 0;
    sink->begin(sink->owner, preamble->held + MAGIC_SIZE + SECRET_SIZE);
    if (taken < length)
        sink->bytes(sink->owner, bytes + taken, length - taken);
}

void preamble_encode_echo(const uint8_t nonce[NONCE_SIZE], uint8_t echo[ECHO_SIZE])
{
    memcpy(echo, ECHO_MAGIC, MAGIC_SIZE);
    memcpy(echo + MAGIC_SIZE, nonce, NONCE_SIZE);
}
