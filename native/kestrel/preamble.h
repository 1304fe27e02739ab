#ifndef KESTREL_PREAMBLE_H
#define KESTREL_PREAMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Finds the host's preamble at the start of a read of the transport. */

enum { PREAMBLE_SIZE = 56, SECRET_SIZE = 32, NONCE_SIZE = 16, ECHO_SIZE = 24 };

struct preamble {
    uint8_t secret[SECRET_SIZE];
    uint8_t held[PREAMBLE_SIZE];
    size_t held_length; /* bytes that match so far and may turn out to be the session's */
};

struct preamble_sink {
    void (*begin)(void *owner, const uint8_t nonce[NONCE_SIZE]);
    void (*bytes)(void *owner, const uint8_t *bytes, size_t length);
    void *owner;
};

void preamble_feed(struct preamble *preamble, const uint8_t *bytes, size_t length, const struct preamble_sink *sink);

/* Give up on a match that nothing completed. */
void preamble_release(struct preamble *preamble, const struct preamble_sink *sink);

void preamble_encode_echo(const uint8_t nonce[NONCE_SIZE], uint8_t echo[ECHO_SIZE]);

#endif
