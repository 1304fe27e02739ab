#ifndef KESTREL_HOSTFILES_H
#define KESTREL_HOSTFILES_H

#include <stdbool.h>
#include <stddef.h>

/* Put a file of mode 0644 at /etc/`name`, in place of whatever is there; a link is replaced, never followed. False with errno set. */
bool hostfiles_replace(const char *name, const char *bytes, size_t length);

#endif
