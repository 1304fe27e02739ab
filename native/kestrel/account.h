#ifndef KESTREL_ACCOUNT_H
#define KESTREL_ACCOUNT_H

#include <stdbool.h>
#include <sys/types.h>

/* A user as the OCI image configuration names it, looked up in the guest's own files. */

enum { GROUPS_MAX = 256 };

struct account {
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX];
    size_t group_count;
    char home[256];
};

/* `user` is name, uid, name:group or uid:gid. False when a name is not there. Reads files, so only in a child. */
bool account_resolve(const char *user, struct account *account);

#endif
