#include "entry.h"

#include <limits.h>
#include <string.h>

#include "place.h"

static const char *const TYPES[] = {"file", "directory", "symlink", "fifo"};

static bool is_good_path(const char *path)
{
    size_t depth = 0;
    if (strcmp(path, ".") == 0)
        return true;
    if (strlen(path) > ENTRY_PATH_MAX)
        return false;
    for (const char *part = path;; part++) {
        size_t length = strcspn(part, "/");
        if (length == 0 || length > NAME_MAX || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (++depth > ENTRY_DEPTH_MAX)
            return false;
        part += length;
        if (*part == '\0')
            return true;
    }
}

bool entry_read(const struct json *json, struct entry *entry, char fault[FAULT_TEXT])
{
    struct place place = {json, 0, "", fault};
    const char *type;
    int64_t mode, uid, gid;
    if (!place_text(&place, "path", NULL, &entry->path) || !place_text(&place, "type", NULL, &type))
        return false;
    if (!is_good_path(entry->path))
        return place_blame(&place, "path", "no path below the directory");
    size_t known = 0;
    while (known < sizeof TYPES / sizeof TYPES[0] && strcmp(type, TYPES[known]) != 0)
        known++;
    if (known == sizeof TYPES / sizeof TYPES[0])
        return place_blame(&place, "type", "not file, directory, symlink or fifo");
    entry->type = (enum entry_type)known;
    if (strcmp(entry->path, ".") == 0 && entry->type != ENTRY_DIRECTORY)
        return place_blame(&place, "type", "the directory itself is a directory");
    if (!place_number(&place, "mode", 0, 07777, entry->type == ENTRY_DIRECTORY ? 0755 : 0644, &mode) ||
        !place_number(&place, "uid", 0, UINT32_MAX - 1, 0, &uid) || !place_number(&place, "gid", 0, UINT32_MAX - 1, 0, &gid))
        return false;
    entry->mode = (mode_t)mode;
    entry->uid = (uid_t)uid;
    entry->gid = (gid_t)gid;
    entry->has_mtime = place_find(&place, "mtime_ns") != 0;
    if (!place_number(&place, "mtime_ns", INT64_MIN, INT64_MAX, 0, &entry->mtime_ns))
        return false;
    entry->size = 0;
    entry->target = NULL;
    if (entry->type == ENTRY_FILE)
        return place_number(&place, "size", 0, INT64_MAX, -1, &entry->size);
    if (entry->type != ENTRY_SYMLINK)
        return true;
    if (!place_text(&place, "target", NULL, &entry->target))
        return false;
    if (entry->target[0] == '\0' || strlen(entry->target) > ENTRY_PATH_MAX)
        return place_blame(&place, "target", "not 1 to 4095 bytes");
    return true;
}

static void write_member(struct writer *writer, const char *name, int64_t value)
{
    write_text(writer, name);
    write_integer(writer, value);
}

void entry_write(struct writer *writer, const struct entry *entry)
{
    write_text(writer, "{\"path\":");
    write_quoted(writer, entry->path);
    write_text(writer, ",\"type\":");
    write_quoted(writer, TYPES[entry->type]);
    write_member(writer, ",\"mode\":", entry->mode);
    write_member(writer, ",\"uid\":", entry->uid);
    write_member(writer, ",\"gid\":", entry->gid);
    write_member(writer, ",\"mtime_ns\":", entry->mtime_ns);
    if (entry->type == ENTRY_FILE)
        write_member(writer, ",\"size\":", entry->size);
    if (entry->type == ENTRY_SYMLINK) {
        write_text(writer, ",\"target\":");
        write_quoted(writer, entry->target);
    }
    write_text(writer, "}");
}

int64_t entry_time_ns(const struct timespec *time)
{
    int64_t limit_s = INT64_MAX / 1000000000 - 1;
    int64_t seconds = time->tv_sec > limit_s ? limit_s : time->tv_sec < -limit_s ? -limit_s : time->tv_sec;
    return seconds * 1000000000 + time->tv_nsec;
}
