/* The search for preambles: none of the host's bytes may be lost or come twice, whatever the reads are. */

#include "fuzz.h"
#include "preamble.h"

struct heard {
    size_t begun;
    size_t bytes;
};

static void on_begin(void *owner, const uint8_t nonce[NONCE_SIZE])
{
    struct heard *heard = owner;
    uint8_t echo[ECHO_SIZE];
    preamble_encode_echo(nonce, echo);
    heard->begun++;
}

static void on_bytes(void *owner, const uint8_t *bytes, size_t length)
{
    struct heard *heard = owner;
    (void)bytes;
    heard->bytes += length;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct heard heard = {0};
    struct preamble preamble = {0};
    struct preamble_sink sink = {on_begin, on_bytes, &heard};
    if (size < 1)
        return 0;
    if ((bytes[0] & 1) != 0)
        memset(preamble.secret, 0xab, SECRET_SIZE);
    size_t fed = 0;
    for (size_t at = 1; at < size;) {
        size_t wanted = bytes[at], length = size - at - 1 < wanted ? size - at - 1 : wanted;
        uint8_t *own = fuzz_copy(bytes + at + 1, length);
        preamble_feed(&preamble, own, length, &sink);
        free(own);
        fed += length;
        at += 1 + length;
        if (wanted % 7 == 0)
            preamble_release(&preamble, &sink);
        fuzz_must(heard.bytes + PREAMBLE_SIZE * heard.begun + preamble.held_length == fed, "bytes were lost or came twice");
    }
    return 0;
}
