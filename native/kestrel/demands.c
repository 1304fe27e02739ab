#include "demands.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { TIME_MAX_MS = 3600000, THRESHOLD_MAX = 1000, REQUEST_TARGET_MAX = 1024, PATH_MAX_BYTES = 80 };

/* Those that one of musl's headers does not name are numbers of the kernel's ABI, the same on x86_64 and aarch64. */
static const struct {
    const char *name;
    int resource;
} ULIMITS[] = {
    {"core", RLIMIT_CORE},       {"cpu", RLIMIT_CPU},   {"data", RLIMIT_DATA},         {"fsize", RLIMIT_FSIZE},
    {"locks", RLIMIT_LOCKS},     {"nice", RLIMIT_NICE}, {"memlock", RLIMIT_MEMLOCK},   {"msgqueue", RLIMIT_MSGQUEUE},
    {"nofile", RLIMIT_NOFILE},   {"as", RLIMIT_AS},     {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"stack", RLIMIT_STACK}, {"rttime", RLIMIT_RTTIME},   {"sigpending", RLIMIT_SIGPENDING},
};

static bool read_flag(const struct place *place, const char *member, bool *flag)
{
    uint32_t node = place_find(place, member);
    if (node != 0 && json_type(place->json, node) != JSON_TRUE && json_type(place->json, node) != JSON_FALSE)
        return place_blame(place, member, "neither true nor false");
    *flag = node != 0 && json_type(place->json, node) == JSON_TRUE;
    return true;
}

/* False when the member is no object; `inner->object` is 0 when it is absent. */
static bool enter_object(const struct place *place, const char *member, char path[PATH_MAX_BYTES], struct place *inner)
{
    uint32_t node = place_find(place, member);
    if (node != 0 && json_type(place->json, node) != JSON_OBJECT)
        return place_blame(place, member, "not an object");
    snprintf(path, PATH_MAX_BYTES, "%s%s.", place->path, member);
    *inner = (struct place){place->json, node, path, place->fault};
    return true;
}

static bool is_request_target(const char *path)
{
    if (path[0] != '/' || strlen(path) > REQUEST_TARGET_MAX)
        return false;
    for (const char *at = path; *at != '\0'; at++)
        if (*at <= ' ' || *at >= 127)
            return false;
    return true;
}

static bool read_target(const struct place *place, struct question *question)
{
    const char *host;
    uint32_t port = 0;
    if (!place_text(place, "host", "127.0.0.1", &host) || !place_small(place, "port", 1, 65535, 0, &port))
        return false;
    if (inet_pton(AF_INET, host, &question->host) != 1)
        return place_blame(place, "host", "not an IPv4 address");
    question->port = (uint16_t)port;
    return true;
}

static bool read_request(const struct place *place, struct question *question)
{
    static const char *const METHODS[] = {"GET", "POST", "PUT", "HEAD"};
    const char *method;
    question->kind = QUESTION_HTTP;
    if (!read_target(place, question) || !place_text(place, "path", "/", &question->path) || !place_text(place, "method", "GET", &method))
        return false;
    if (!is_request_target(question->path))
        return place_blame(place, "path", "not a path of printable characters");
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++)
        if (strcmp(method, METHODS[i]) == 0)
            question->method = METHODS[i];
    return question->method != NULL ? true : place_blame(place, "method", "not GET, POST, PUT or HEAD");
}

static bool read_arguments(const struct place *place, struct question *question)
{
    question->kind = QUESTION_EXEC;
    uint32_t list = place_find(place, "argv");
    if (list == 0 || json_type(place->json, list) != JSON_ARRAY)
        return place_blame(place, "argv", list == 0 ? "missing" : "not a list");
    uint32_t count = json_length(place->json, list);
    if (count == 0 || count > QUESTION_ARGUMENTS_MAX)
        return place_blame(place, "argv", "not 1 to 256 arguments");
    size_t at = 0;
    for (uint32_t node = json_first(place->json, list); node != 0; node = json_following(place->json, list, node)) {
        const char *text = json_text(place->json, node);
        if (text == NULL)
            return place_blame(place, "argv", "an argument is not a string without NUL");
        question->argv[at++] = text;
    }
    return question->argv[0][0] != '\0' ? true : place_blame(place, "argv", "the program has no name");
}

static bool read_question(const struct place *place, bool is_hook, struct question *question)
{
    const char *type;
    if (!place_text(place, "type", NULL, &type) ||
        !place_small(place, "timeout_ms", 1, TIME_MAX_MS, is_hook ? 10000 : 1000, &question->timeout_ms))
        return false;
    if (strcmp(type, "http") == 0)
        return read_request(place, question);
    if (strcmp(type, "exec") == 0)
        return read_arguments(place, question);
    if (strcmp(type, "tcp") != 0 || is_hook)
        return place_blame(place, "type", is_hook ? "not http or exec" : "not http, tcp or exec");
    question->kind = QUESTION_TCP;
    return read_target(place, question);
}

/* The member `health`: readiness as it was asked for at first. */
static bool read_health(const struct place *workload, struct probe *probe)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    const char *type;
    if (!enter_object(workload, "health", path, &place))
        return false;
    if (place.object == 0)
        return true;
    if (!place_text(&place, "type", NULL, &type))
        return false;
    if (strcmp(type, "http") != 0)
        return place_blame(&place, "type", "not http");
    probe->success_threshold = 1;
    return read_question(&place, false, &probe->question) &&
           place_small(&place, "interval_ms", 1, TIME_MAX_MS, 2000, &probe->interval_ms) &&
           place_small(&place, "start_interval_ms", 1, TIME_MAX_MS, 50, &probe->start_interval_ms) &&
           place_small(&place, "unhealthy_threshold", 1, THRESHOLD_MAX, 3, &probe->failure_threshold);
}

static bool read_probe(const struct place *probes, const char *name, struct probe *probe)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    if (!enter_object(probes, name, path, &place))
        return false;
    if (place.object == 0)
        return true;
    *probe = (struct probe){0};
    return read_question(&place, false, &probe->question) &&
           place_small(&place, "initial_delay_ms", 0, TIME_MAX_MS, 0, &probe->initial_delay_ms) &&
           place_small(&place, "interval_ms", 1, TIME_MAX_MS, 5000, &probe->interval_ms) &&
           place_small(&place, "start_interval_ms", 1, TIME_MAX_MS, probe->interval_ms, &probe->start_interval_ms) &&
           place_small(&place, "success_threshold", 1, THRESHOLD_MAX, 1, &probe->success_threshold) &&
           place_small(&place, "failure_threshold", 1, THRESHOLD_MAX, 3, &probe->failure_threshold);
}

static bool read_probes(const struct place *workload, struct config *config)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    if (!enter_object(workload, "probes", path, &place))
        return false;
    return place.object == 0 || (read_probe(&place, "startup", &config->probes[PROBE_STARTUP]) &&
                                 read_probe(&place, "readiness", &config->probes[PROBE_READINESS]) &&
                                 read_probe(&place, "liveness", &config->probes[PROBE_LIVENESS]));
}

static bool read_hook(const struct place *hooks, const char *name, struct question *hook)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    if (!enter_object(hooks, name, path, &place))
        return false;
    return place.object == 0 || read_question(&place, true, hook);
}

static bool read_hooks(const struct place *workload, struct config *config)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    if (!enter_object(workload, "hooks", path, &place))
        return false;
    return place.object == 0 ||
           (read_hook(&place, "post_start", &config->post_start) && read_hook(&place, "pre_stop", &config->pre_stop));
}

static bool read_ulimit(const struct place *workload, const struct place *ulimits, const char *name, uint32_t node, struct ulimit *ulimit)
{
    char path[PATH_MAX_BYTES];
    int64_t soft, hard;
    size_t i = 0;
    while (i < ULIMITS_MAX && strcmp(name, ULIMITS[i].name) != 0)
        i++;
    if (i == ULIMITS_MAX)
        return place_blame(workload, "ulimits", "no such limit");
    if (json_type(ulimits->json, node) != JSON_OBJECT)
        return place_blame(ulimits, name, "not an object");
    snprintf(path, sizeof path, "%s%s.", ulimits->path, name);
    struct place place = {ulimits->json, node, path, ulimits->fault};
    if (!place_number(&place, "soft", -1, INT64_MAX, -2, &soft) || !place_number(&place, "hard", -1, INT64_MAX, -2, &hard))
        return false;
    if (hard >= 0 && (soft < 0 || soft > hard))
        return place_blame(&place, "soft", "above the hard limit");
    *ulimit = (struct ulimit){ULIMITS[i].resource, soft < 0 ? RLIM_INFINITY : (rlim_t)soft, hard < 0 ? RLIM_INFINITY : (rlim_t)hard};
    return true;
}

static bool read_ulimits(const struct place *workload, struct command *command)
{
    char path[PATH_MAX_BYTES];
    struct place place;
    _Static_assert(sizeof ULIMITS / sizeof ULIMITS[0] == ULIMITS_MAX, "there is room for each");
    if (!enter_object(workload, "ulimits", path, &place))
        return false;
    for (uint32_t node = place.object == 0 ? 0 : json_first(place.json, place.object); node != 0;) {
        const char *name = json_text(place.json, node);
        uint32_t value = json_following(place.json, place.object, node);
        if (name == NULL || command->ulimit_count == ULIMITS_MAX)
            return place_blame(workload, "ulimits", "no such limit");
        if (!read_ulimit(workload, &place, name, value, &command->ulimits[command->ulimit_count]))
            return false;
        command->ulimit_count++;
        node = json_following(place.json, place.object, value);
    }
    return true;
}

bool demands_read(const struct place *workload, struct config *config)
{
    return read_flag(workload, "tty", &config->tty) && read_flag(workload, "stdin", &config->with_stdin) &&
           place_small(workload, "stop_grace_ms", 1, TIME_MAX_MS, 10000, &config->stop_grace_ms) &&
           read_health(workload, &config->probes[PROBE_READINESS]) && read_probes(workload, config) && read_hooks(workload, config) &&
           read_ulimits(workload, &config->command);
}
