#ifndef KESTREL_BOOT_H
#define KESTREL_BOOT_H

#include <stdbool.h>
#include <stddef.h>

/* Bring the guest up to the point where it waits for its configuration. */

/* The kernel's file systems, the console, devices' usual links. */
void boot_mount(void);

/* A member of the kernel command line, `name` with its "="; false when absent. */
bool boot_option(const char *name, char *value, size_t size);

/* Say why the guest cannot go on, and power off. */
_Noreturn void boot_fail(const char *what, const char *why);

#endif
