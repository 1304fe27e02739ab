#ifndef KESTREL_ENTRY_H
#define KESTREL_ENTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "config.h"
#include "json.h"
#include "writer.h"

/* What a files stream says of one file: section 4.6. */

enum { ENTRY_PATH_MAX = 4095, ENTRY_DEPTH_MAX = 512 };
enum entry_type { ENTRY_FILE, ENTRY_DIRECTORY, ENTRY_SYMLINK, ENTRY_FIFO };

struct entry {
    const char *path; /* without "..", leading "/" and empty parts; "." is the thing itself */
    enum entry_type type;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    bool has_mtime;
    int64_t mtime_ns;
    int64_t size;
    const char *target;
};

/* False with the member at fault. The texts point into `json`'s. */
bool entry_read(const struct json *json, struct entry *entry, char fault[FAULT_TEXT]);

void entry_write(struct writer *writer, const struct entry *entry);

/* The time, in nanoseconds since 1970, as far as 64 bits reach. */
int64_t entry_time_ns(const struct timespec *time);

#endif
