#include "farewell.h"

#include <stdio.h>
#include <sys/wait.h>

#include "configuration.h"
#include "console.h"
#include "workload.h"

enum { PATIENCE_MS = 500 };

size_t farewell_write(char line[FAREWELL_SIZE], const char *digest, bool ended, int status, const char *reason)
{
    char how[16] = "exit=none";
    if (ended && WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal=%d", WTERMSIG(status));
    else if (ended)
        snprintf(how, sizeof how, "exit=%d", WEXITSTATUS(status));
    /* Somebody's half a line may stand there. The reason comes last: what was cut is then no line at all. */
    return (size_t)snprintf(line, FAREWELL_SIZE, "\nkestrel: end %s %s reason=%s\n", digest, how, reason);
}

void farewell_say(const char *reason)
{
    char line[FAREWELL_SIZE];
    int status = 0;
    if (!configuration_is_accepted())
        return;
    bool ended = workload_has_ended(&status);
    size_t length = farewell_write(line, configuration_digest(), ended, status, reason);
    console_insist(line, length, PATIENCE_MS);
}
