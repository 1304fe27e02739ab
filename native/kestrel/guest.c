#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "bootid.h"
#include "configuration.h"
#include "console.h"
#include "dhcp.h"
#include "entropy.h"
#include "identity.h"
#include "machine.h"
#include "mounts.h"
#include "net.h"
#include "rootfs.h"

/* The machine of a real guest. */

void machine_mix_nonce(const uint8_t nonce[NONCE_SIZE])
{
    /* ENODATA: the kernel has too little yet to be ready, and takes these bytes in when it is. */
    if (!entropy_add(nonce, NONCE_SIZE) && errno != ENODATA)
        console_say("cannot mix the session's nonce into the random numbers: %s", strerror(errno));
}

bool machine_set_clock(int64_t unix_ns)
{
    struct timespec now = {.tv_sec = unix_ns / 1000000000, .tv_nsec = unix_ns % 1000000000};
    return clock_settime(CLOCK_REALTIME, &now) == 0;
}

static bool apply_first(const struct config *config, char *text, size_t size)
{
    if (config->unix_ns > 0 && !machine_set_clock(config->unix_ns))
        console_say("cannot set the clock: %s", strerror(errno));
    if (!entropy_add(config->entropy, sizeof config->entropy)) {
        snprintf(text, size, "cannot reseed the kernel's random numbers: %s", strerror(errno));
        return false; /* two guests of one template must not share them */
    }
    if (sethostname(config->hostname, strlen(config->hostname)) != 0)
        console_say("cannot set the hostname: %s", strerror(errno));
    return true;
}

bool machine_configure(const struct config *config, char *text, size_t size)
{
    if (!apply_first(config, text, size) || !rootfs_switch(config, text, size) || !mounts_make(config, text, size))
        return false;
    identity_write(config);
    if (!net_apply(config, text, size))
        return false;
    dhcp_start(config);
    return true;
}

bool machine_renew(const struct config *config, char *text, size_t size)
{
    if (!apply_first(config, text, size))
        return false;
    bootid_renew();
    identity_write(config);
    dhcp_stop(); /* what was given to who it was */
    if (!net_renew(config, text, size))
        return false;
    dhcp_start(config);
    return true;
}

bool machine_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size)
{
    if (now != NULL && now->nameserver_count > 0 && configuration()->nameserver_count == 0)
        identity_write_nameservers(now);
    return net_take_lease(index, before, now, text, size);
}

void machine_sync(void)
{
    sync();
}

bool machine_can_freeze(void)
{
    return rootfs_has_disk();
}

bool machine_freeze(void)
{
    return rootfs_freeze();
}

bool machine_thaw(void)
{
    return rootfs_thaw();
}

void machine_signal_all(int number)
{
    kill(-1, number);
}

_Noreturn void machine_power_off(void)
{
    mounts_leave();
    rootfs_leave();
    console_say("power off");
    for (;;) {
        reboot(RB_POWER_OFF);
        sleep(1);
    }
}
