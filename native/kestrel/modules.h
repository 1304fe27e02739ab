#ifndef KESTREL_MODULES_H
#define KESTREL_MODULES_H

/* Kernel modules that /etc/kestrel/modules lists, one absolute path a line, in the order that loads them. */

void modules_load(void);

/* Remove their files below `root_fd`, where they only take memory once they are loaded. */
void modules_discard(int root_fd);

#endif
