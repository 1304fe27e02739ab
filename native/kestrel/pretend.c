#include <stdlib.h>

#include "asking.h"
#include "exec.h"
#include "files.h"
#include "machine.h"
#include "workload.h"

/* The machine of the test agent: a host that it must not touch. */

void machine_mix_nonce(const uint8_t nonce[NONCE_SIZE])
{
    (void)nonce;
}

bool machine_configure(const struct config *config, char *text, size_t size)
{
    (void)config;
    (void)text;
    (void)size;
    return true;
}

bool machine_renew(const struct config *config, char *text, size_t size)
{
    return machine_configure(config, text, size);
}

bool machine_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size)
{
    (void)index;
    (void)before;
    (void)now;
    (void)text;
    (void)size;
    return true;
}

bool machine_set_clock(int64_t unix_ns)
{
    (void)unix_ns;
    return true;
}

void machine_sync(void)
{
}

bool machine_can_freeze(void)
{
    return false;
}

bool machine_freeze(void)
{
    return false;
}

bool machine_thaw(void)
{
    return false;
}

void machine_signal_all(int number)
{
    workload_signal_group(number);
    exec_signal_all(number);
    files_signal_all(number);
    asking_signal_all(number);
}

_Noreturn void machine_power_off(void)
{
    exit(0);
}
