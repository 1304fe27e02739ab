/* The limit of the channel: a first program that opens the agent's port and writes to it as fast as it takes. */
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include "modules.h"
#include "port.h"

int main(void)
{
    static char block[65536];
    int port;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    modules_load();
    while ((port = port_open("volant.agent")) < 0)
        poll(NULL, 0, 50);
    for (;;)
        if (write(port, block, sizeof block) < 0)
            poll(&(struct pollfd){.fd = port, .events = POLLOUT}, 1, 50);
}
