/* Entries of a files stream, and the terminal of an exec's opening message. */

#include "entry.h"
#include "fuzz.h"
#include "terminal.h"

static bool leads_out(const char *path)
{
    if (path[0] == '/' || path[0] == '\0')
        return true;
    for (const char *part = path; part != NULL; part = strchr(part, '/') != NULL ? strchr(part, '/') + 1 : NULL)
        if (strcmp(part, "..") == 0 || strncmp(part, "../", 3) == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct json json, again;
    static char out[65531];
    char fault[FAULT_TEXT] = "";
    struct terminal terminal;
    struct entry entry, other;
    char *own = fuzz_copy(bytes, size);
    if (json_parse(&json, own, size)) {
        uint32_t tty = json_member(&json, 0, "tty");
        if (tty != 0 && terminal_read(&json, tty, &terminal, fault))
            fuzz_must(terminal.rows >= 1 && terminal.rows <= TERMINAL_SIDE_MAX && terminal.cols >= 1, "a size out of range");
        if (entry_read(&json, &entry, fault)) {
            fuzz_must(!leads_out(entry.path) && entry.mode <= 07777 && entry.size >= 0, "an entry that leads out");
            struct writer writer = {.bytes = out, .capacity = sizeof out};
            entry_write(&writer, &entry);
            fuzz_must(!writer.overflow, "too long to be written");
            fuzz_must(json_parse(&again, out, writer.length) && entry_read(&again, &other, fault), "what was written cannot be read");
            fuzz_must(strcmp(entry.path, other.path) == 0 && entry.type == other.type && entry.size == other.size, "it reads as another");
        } else {
            fuzz_must(strchr(fault, ':') != NULL, "no member is blamed");
        }
    }
    free(own);
    return 0;
}
