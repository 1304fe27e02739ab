#include "beside.h"

#include <string.h>

#include "attach.h"
#include "configuration.h"
#include "connect.h"
#include "exec.h"
#include "files.h"
#include "logs.h"
#include "shutdown.h"

static void open_exec(struct stream *stream, const struct json *message)
{
    exec_open(stream, message, &configuration()->command);
}

static const struct kind {
    const char *name;
    void (*open)(struct stream *stream, const struct json *message);
    bool of_workload;    /* names the workload */
    bool needs_root;     /* the configuration is in force, not only accepted */
    bool while_stopping; /* may be opened then */
} KINDS[] = {
    {"exec", open_exec, true, true, false},
    {"logs", logs_open, true, false, true},
    {"attach", attach_open, true, true, false},
    {"connect", connect_open, false, true, true},
    {"read_files", files_open_read, false, true, false},
    {"write_files", files_open_write, false, true, false},
};

void beside_open(struct stream *stream, const struct json *message, const char *name)
{
    const struct kind *kind = NULL;
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0] && kind == NULL; i++)
        if (strcmp(name, KINDS[i].name) == 0)
            kind = &KINDS[i];
    const char *workload = json_text(message, json_member(message, 0, "workload"));
    if (kind == NULL)
        stream_refuse(stream, "unknown_stream", "no such kind of stream");
    else if (kind->needs_root ? !configuration_is_in_force() : !configuration_is_accepted())
        stream_refuse(stream, "not_configured", "the guest has no configuration yet");
    else if (kind->of_workload && workload == NULL)
        stream_refuse(stream, "malformed", "workload: missing");
    else if (kind->of_workload && strcmp(workload, configuration()->workload_name) != 0)
        stream_refuse(stream, "no_such_workload", "no such workload");
    else if (shutdown_has_begun() && !kind->while_stopping)
        stream_refuse(stream, "failed", "the guest is stopping");
    else
        kind->open(stream, message);
}
