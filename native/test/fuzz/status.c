/* The status line of a probe's answer, of which the agent keeps no more than a line. */

#include "asking.h"
#include "fuzz.h"
#include "health.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    size_t length = size < ASKING_ANSWER_SIZE ? size : ASKING_ANSWER_SIZE;
    char *own = fuzz_copy(bytes, length);
    int status = health_read_status(own, length);
    free(own);
    fuzz_must(status >= -1 && status <= 999, "no status");
    return 0;
}
