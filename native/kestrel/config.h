#ifndef KESTREL_CONFIG_H
#define KESTREL_CONFIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "json.h"
#include "preamble.h"

/* The configuration document, checked and decoded. All texts point into the document's own copy. */

enum {
    ARGUMENTS_MAX = 1024,
    VARIABLES_MAX = 1024,
    INTERFACES_MAX = 8,
    NAMESERVERS_MAX = 8,
    MOUNTS_MAX = 16,
    ULIMITS_MAX = 16,
    QUESTION_ARGUMENTS_MAX = 256,
    ENTROPY_SIZE = 64,
    DIGEST_TEXT = 72, /* "sha256:", 64 digits, NUL */
    FAULT_TEXT = 160,
};

struct variable {
    const char *name;
    const char *value;
};

struct ulimit {
    int resource;
    rlim_t soft;
    rlim_t hard;
};

struct command {
    const char *argv[ARGUMENTS_MAX + 1];
    struct variable env[VARIABLES_MAX];
    size_t env_count;
    const char *user; /* NULL: as the workload */
    const char *workdir;
    size_t ulimit_count;
    struct ulimit ulimits[ULIMITS_MAX]; /* the workload's; others have them through it */
};

struct interface {
    uint8_t mac[6];
    bool has_device_mac;
    uint8_t device_mac[6]; /* what the device may have until it gets `mac` */
    const char *name;
    bool dhcp;
    bool has_address;
    struct in_addr address;
    uint8_t prefix;
    bool has_gateway;
    struct in_addr gateway;
    uint32_t mtu; /* 0: leave it */
};

struct mount {
    const char *disk; /* its serial */
    const char *path;
    const char *filesystem; /* "": whatever is found there */
    bool readonly;
};

enum root_kind { ROOT_NONE, ROOT_MEMORY, ROOT_DISK };
enum restart_policy { RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_NEVER };

struct restart {
    enum restart_policy policy;
    uint32_t initial_backoff_ms;
    uint32_t max_backoff_ms;
    uint32_t reset_after_ms;
    uint32_t max_restarts; /* 0: no limit */
};

enum question_kind { QUESTION_NONE, QUESTION_HTTP, QUESTION_TCP, QUESTION_EXEC };

/* Something put to the workload: a request, a connection, a program that ends with 0. */
struct question {
    enum question_kind kind;
    struct in_addr host;
    uint16_t port;
    const char *path;
    const char *method;
    const char *argv[QUESTION_ARGUMENTS_MAX + 1];
    uint32_t timeout_ms;
};

enum { PROBE_STARTUP, PROBE_READINESS, PROBE_LIVENESS, PROBES };

struct probe {
    struct question question;
    uint32_t initial_delay_ms;
    uint32_t interval_ms;
    uint32_t start_interval_ms; /* of readiness, until it succeeds */
    uint32_t success_threshold;
    uint32_t failure_threshold;
};

struct config {
    uint8_t channel_secret[SECRET_SIZE];
    uint8_t entropy[ENTROPY_SIZE];
    int64_t unix_ns;
    const char *hostname;
    const char *machine_id;
    size_t interface_count;
    struct interface interfaces[INTERFACES_MAX];
    size_t nameserver_count;
    const char *nameservers[NAMESERVERS_MAX];
    uint32_t hosts; /* node of network.hosts, 0 when absent */
    enum root_kind root;
    const char *root_disk;
    size_t mount_count;
    struct mount mounts[MOUNTS_MAX];
    const char *workload_name;
    struct command command;
    int stop_signal;
    uint32_t stop_grace_ms; /* when it fails a probe */
    struct restart restart;
    struct probe probes[PROBES];
    struct question post_start;
    struct question pre_stop;
    bool tty;
    bool with_stdin;
    struct json json;
};

/* Decode `document`, which is changed. False with the member at fault, or "" and ": …", in `fault`. */
bool config_parse(struct config *config, char *document, size_t size, char fault[FAULT_TEXT]);

/* The part that exec's opening message shares with a workload. `path` is what faults begin with. */
bool config_read_command(const struct json *json, uint32_t object, const char *path, struct command *command, char fault[FAULT_TEXT]);

void config_digest(const char *document, size_t size, char digest[DIGEST_TEXT]);

#endif
