#ifndef KESTREL_BOOTID_H
#define KESTREL_BOOTID_H

/* The kernel makes its boot id once, at the first read, and never again: a guest that is given a new identity gets another
   one laid over it. What fails is said on the console. */
void bootid_renew(void);

#endif
