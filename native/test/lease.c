/* The DHCP client of kestrel on an interface of a test's own: `lease NAME MAC HOSTNAME`, in a namespace that may be changed.
   Every change is told as a line on stdout. A line on stdin hurries it; the end of stdin ends it. */

#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "dhcp.h"
#include "loop.h"
#include "machine.h"
#include "net.h"

static bool changed;
static bool over;

void control_network_changed(void)
{
    changed = true;
}

bool machine_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size)
{
    return net_take_lease(index, before, now, text, size);
}

static void on_input(struct watch *watch, uint32_t events)
{
    char bytes[64];
    (void)events;
    if (read(watch->fd, bytes, sizeof bytes) <= 0)
        over = true;
    else
        dhcp_hurry();
}

static void tell(void)
{
    char bytes[4096];
    struct writer writer = {.bytes = bytes, .capacity = sizeof bytes};
    write_text(&writer, "{");
    dhcp_describe(&writer);
    write_text(&writer, "}\n");
    changed = false;
    fwrite(bytes, 1, writer.length, stdout);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct config config;
    struct interface *interface = &config.interfaces[0];
    unsigned mac[6];
    if (argc != 4 || sscanf(argv[2], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
        return 2;
    for (int i = 0; i < 6; i++)
        interface->mac[i] = (uint8_t)mac[i];
    interface->name = argv[1];
    interface->dhcp = true;
    config.interface_count = 1;
    config.hostname = argv[3];
    console_open(STDERR_FILENO);
    loop_open();
    struct watch input = {.fd = STDIN_FILENO, .ready = on_input};
    if (!loop_watch(&input, EPOLLIN))
        return 1;
    dhcp_start(&config);
    while (!over) {
        if (changed)
            tell();
        loop_step(-1);
    }
    dhcp_stop();
    return 0;
}
