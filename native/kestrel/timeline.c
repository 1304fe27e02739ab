#include "timeline.h"

#include "loop.h"

static const char *const NAMES[MILESTONES] = {"init_ms", "modules_ms", "rootfs_ms", "channel_ms", "configured_ms", "started_ms"};

static uint64_t reached[MILESTONES];

void timeline_mark(enum milestone milestone)
{
    if (reached[milestone] == 0)
        reached[milestone] = uptime_ms();
}

void timeline_describe(struct writer *writer)
{
    write_text(writer, "{");
    bool first = true;
    for (int i = 0; i < MILESTONES; i++) {
        if (reached[i] == 0)
            continue;
        write_text(writer, first ? "" : ",");
        write_quoted(writer, NAMES[i]);
        write_text(writer, ":");
        write_integer(writer, (int64_t)reached[i]);
        first = false;
    }
    write_text(writer, "}");
}
