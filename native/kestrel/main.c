#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blockdev.h"
#include "boot.h"
#include "channel.h"
#include "console.h"
#include "descriptors.h"
#include "loop.h"
#include "modules.h"
#include "reap.h"
#include "rootfs.h"
#include "timeline.h"
#include "transport.h"

enum { DEVICE_WAIT_MS = 10000 };

static void mount_root(void)
{
    char wanted[64], type[32] = "erofs", device[64];
    if (!boot_option("volant.rootfs_device=", wanted, sizeof wanted))
        return;
    boot_option("volant.rootfs_fstype=", type, sizeof type);
    if (!blockdev_find(wanted, DEVICE_WAIT_MS, device, sizeof device))
        boot_fail(wanted, "no such root device");
    if (!rootfs_mount_image(device, type))
        boot_fail(device, strerror(errno));
}

int main(void)
{
    if (getpid() != 1) {
        fputs("kestrel is the first process of a guest; kestrel-test runs elsewhere\n", stderr);
        return 2;
    }
    boot_mount();
    descriptors_raise();
    timeline_mark(MILESTONE_INIT);
    modules_load();
    timeline_mark(MILESTONE_MODULES);
    mount_root();
    timeline_mark(MILESTONE_ROOTFS);
    loop_open();
    if (!reap_open())
        boot_fail("signals", strerror(errno));
    if (!transport_open("volant.agent", DEVICE_WAIT_MS))
        boot_fail("volant.agent", "no such virtio port, and no vsock");
    timeline_mark(MILESTONE_CHANNEL);
    console_say("waiting for the host");
    for (;;)
        loop_step(channel_flush() ? 0 : -1);
}
