#include "transport.h"

#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "loop.h"
#include "port.h"
#include "vsock.h"

enum { STEP_NS = 2000000 };

static bool open_vsock(void)
{
    int listener = vsock_listen();
    return listener >= 0 && vsock_serve(listener, vsock_is_host);
}

bool transport_open(const char *name, uint64_t limit_ms)
{
    uint64_t deadline_ms = uptime_ms() + limit_ms;
    for (;;) {
        int port = port_open(name);
        if (port >= 0)
            return channel_open(port);
        bool late = uptime_ms() >= deadline_ms;
        /* A console that may have ports tells of them one by one, and later; only one that has none leaves vsock. */
        if (vsock_is_there() && (late || !port_may_come()))
            return open_vsock();
        if (late)
            return false;
        nanosleep(&(struct timespec){0, STEP_NS}, NULL);
    }
}
