#include "config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "demands.h"
#include "mount_list.h"
#include "place.h"
#include "sha256.h"

enum { TIME_MAX_MS = 3600000, SERIAL_MAX = 20, HOSTNAME_MAX = 64, NAME_MAX_BYTES = 63, INTERFACE_NAME_MAX = 15, RESTARTS_MAX = 1000000 };

static bool is_address(const char *text)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool read_identity(const struct place *place, struct config *config)
{
    int64_t version;
    if (!place_number(place, "version", 1, 1, 0, &version) ||
        !place_hex(place, "channel_secret", config->channel_secret, sizeof config->channel_secret) ||
        !place_hex(place, "entropy", config->entropy, sizeof config->entropy) ||
        !place_number(place, "unix_ns", 0, INT64_MAX, -1, &config->unix_ns) ||
        !place_text(place, "hostname", NULL, &config->hostname) || !place_text(place, "machine_id", NULL, &config->machine_id))
        return false;
    if (!is_made_of(config->hostname, HOSTNAME_MAX, ".-") || config->hostname[0] == '-' || config->hostname[0] == '.')
        return place_blame(place, "hostname", "not 1 to 64 letters, digits, points and hyphens");
    if (strlen(config->machine_id) != 32 || strspn(config->machine_id, "0123456789abcdef") != 32)
        return place_blame(place, "machine_id", "not 32 lower-case hexadecimal digits");
    return true;
}

static bool read_mac(const struct place *place, const char *member, uint8_t mac[6])
{
    const char *text;
    if (!place_text(place, member, NULL, &text))
        return false;
    if (strlen(text) != 17)
        return place_blame(place, member, "not six bytes");
    for (size_t i = 0; i < 6; i++) {
        int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
            return place_blame(place, member, "not six bytes");
        mac[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_address(const struct place *place, struct interface *interface)
{
    const char *text;
    if (!place_text(place, "address", "", &text))
        return false;
    if (*text == '\0')
        return place_find(place, "address") == 0 ? true : place_blame(place, "address", "empty");
    char address[INET_ADDRSTRLEN + 4];
    if (strlen(text) >= sizeof address)
        return place_blame(place, "address", "not an IPv4 address with its prefix");
    strcpy(address, text);
    char *slash = strchr(address, '/');
    if (slash == NULL)
        return place_blame(place, "address", "has no prefix length");
    *slash++ = '\0';
    size_t digits = strlen(slash);
    if (digits < 1 || digits > 2 || strspn(slash, "0123456789") != digits || (digits == 2 && slash[0] == '0'))
        return place_blame(place, "address", "prefix length is not 0 to 32");
    int prefix = digits == 1 ? slash[0] - '0' : (slash[0] - '0') * 10 + slash[1] - '0';
    if (prefix > 32 || inet_pton(AF_INET, address, &interface->address) != 1)
        return place_blame(place, "address", "not an IPv4 address with its prefix");
    interface->prefix = (uint8_t)prefix;
    interface->has_address = true;
    return true;
}

static bool read_interface(const struct place *place, struct interface *interface)
{
    const char *gateway;
    interface->has_device_mac = place_find(place, "device_mac") != 0;
    if (!read_mac(place, "mac", interface->mac) ||
        (interface->has_device_mac && !read_mac(place, "device_mac", interface->device_mac)) ||
        !place_text(place, "name", NULL, &interface->name) || !read_address(place, interface) ||
        !place_text(place, "gateway", "", &gateway) ||
        !place_small(place, "mtu", 68, 65535, 68, &interface->mtu))
        return false;
    if (!is_made_of(interface->name, INTERFACE_NAME_MAX, "_.-") || interface->name[0] == '.' || strcmp(interface->name, "lo") == 0)
        return place_blame(place, "name", "no good name for an interface");
    if (place_find(place, "mtu") == 0)
        interface->mtu = 0;
    uint32_t dhcp = place_find(place, "dhcp");
    interface->dhcp = dhcp != 0 && json_type(place->json, dhcp) == JSON_TRUE;
    if (dhcp != 0 && !interface->dhcp && json_type(place->json, dhcp) != JSON_FALSE)
        return place_blame(place, "dhcp", "neither true nor false");
    if (interface->dhcp && (interface->has_address || place_find(place, "gateway") != 0))
        return place_blame(place, "dhcp", "has an address already");
    if (place_find(place, "gateway") == 0)
        return true;
    if (inet_pton(AF_INET, gateway, &interface->gateway) != 1)
        return place_blame(place, "gateway", "not an IPv4 address");
    interface->has_gateway = true;
    return true;
}

static bool read_interfaces(const struct place *network, struct config *config)
{
    uint32_t list = place_find(network, "interfaces");
    if (list == 0)
        return true;
    if (json_type(network->json, list) != JSON_ARRAY || json_length(network->json, list) > INTERFACES_MAX)
        return place_blame(network, "interfaces", "not a list of at most 8");
    for (uint32_t node = json_first(network->json, list); node != 0; node = json_following(network->json, list, node)) {
        char path[48];
        snprintf(path, sizeof path, "network.interfaces[%zu].", config->interface_count);
        struct place place = {network->json, node, path, network->fault};
        if (!read_interface(&place, &config->interfaces[config->interface_count]))
            return false;
        config->interface_count++;
    }
    return true;
}

static bool read_nameservers(const struct place *network, struct config *config)
{
    uint32_t list = place_find(network, "nameservers");
    if (list == 0)
        return true;
    if (json_type(network->json, list) != JSON_ARRAY || json_length(network->json, list) > NAMESERVERS_MAX)
        return place_blame(network, "nameservers", "not a list of at most 8");
    for (uint32_t node = json_first(network->json, list); node != 0; node = json_following(network->json, list, node)) {
        const char *text = json_text(network->json, node);
        if (text == NULL || !is_address(text)) {
            char member[32];
            snprintf(member, sizeof member, "nameservers[%zu]", config->nameserver_count);
            return place_blame(network, member, "not an IP address");
        }
        config->nameservers[config->nameserver_count++] = text;
    }
    return true;
}

static bool read_hosts(const struct place *network, struct config *config)
{
    const struct json *json = network->json;
    uint32_t hosts = place_find(network, "hosts");
    if (hosts == 0)
        return true;
    if (json_type(json, hosts) != JSON_OBJECT)
        return place_blame(network, "hosts", "not an object");
    for (uint32_t node = json_first(json, hosts); node != 0;) {
        const char *address = json_text(json, node);
        uint32_t names = json_following(json, hosts, node);
        if (address == NULL || !is_address(address))
            return place_blame(network, "hosts", "a name is not an IP address");
        if (json_type(json, names) != JSON_ARRAY)
            return place_blame(network, "hosts", "a value is not a list of names");
        for (uint32_t name = json_first(json, names); name != 0; name = json_following(json, names, name)) {
            const char *text = json_text(json, name);
            if (text == NULL || !is_made_of(text, 253, "._-"))
                return place_blame(network, "hosts", "no good host name");
        }
        node = json_following(json, hosts, names);
    }
    config->hosts = hosts;
    return true;
}

static bool read_network(const struct place *root, struct config *config)
{
    uint32_t node = place_find(root, "network");
    if (node == 0)
        return true;
    if (json_type(root->json, node) != JSON_OBJECT)
        return place_blame(root, "network", "not an object");
    struct place place = {root->json, node, "network.", root->fault};
    return read_interfaces(&place, config) && read_nameservers(&place, config) && read_hosts(&place, config);
}

static bool read_root(const struct place *root, struct config *config)
{
    uint32_t node = place_find(root, "root");
    if (node == 0 || json_type(root->json, node) != JSON_OBJECT)
        return place_blame(root, "root", node == 0 ? "missing" : "not an object");
    struct place place = {root->json, node, "root.", root->fault};
    const char *writable;
    if (!place_text(&place, "writable", NULL, &writable))
        return false;
    if (strcmp(writable, "none") == 0)
        config->root = ROOT_NONE;
    else if (strcmp(writable, "memory") == 0)
        config->root = ROOT_MEMORY;
    else if (strcmp(writable, "disk") == 0)
        config->root = ROOT_DISK;
    else
        return place_blame(&place, "writable", "not disk, memory or none");
    if (config->root != ROOT_DISK)
        return true;
    if (!place_text(&place, "disk", NULL, &config->root_disk))
        return false;
    if (!is_made_of(config->root_disk, SERIAL_MAX, "_.-"))
        return place_blame(&place, "disk", "not a serial of 1 to 20 letters, digits, _ . -");
    return true;
}

static bool read_argv(const struct place *place, struct command *command)
{
    uint32_t list = place_find(place, "argv");
    if (list == 0 || json_type(place->json, list) != JSON_ARRAY)
        return place_blame(place, "argv", list == 0 ? "missing" : "not a list");
    uint32_t count = json_length(place->json, list);
    if (count == 0 || count > ARGUMENTS_MAX)
        return place_blame(place, "argv", "not 1 to 1024 arguments");
    size_t at = 0;
    for (uint32_t node = json_first(place->json, list); node != 0; node = json_following(place->json, list, node)) {
        const char *text = json_text(place->json, node);
        if (text == NULL)
            return place_blame(place, "argv", "an argument is not a string without NUL");
        command->argv[at++] = text;
    }
    command->argv[at] = NULL;
    if (command->argv[0][0] == '\0')
        return place_blame(place, "argv", "the program has no name");
    return true;
}

static bool read_env(const struct place *place, struct command *command)
{
    command->env_count = 0;
    uint32_t env = place_find(place, "env");
    if (env == 0)
        return true;
    if (json_type(place->json, env) != JSON_OBJECT || json_length(place->json, env) > 2 * VARIABLES_MAX)
        return place_blame(place, "env", "not an object of at most 1024 variables");
    for (uint32_t node = json_first(place->json, env); node != 0;) {
        uint32_t value = json_following(place->json, env, node);
        struct variable *variable = &command->env[command->env_count++];
        *variable = (struct variable){json_text(place->json, node), json_text(place->json, value)};
        if (variable->name == NULL || variable->name[0] == '\0' || strchr(variable->name, '=') != NULL)
            return place_blame(place, "env", "no good name for a variable");
        if (variable->value == NULL)
            return place_blame(place, "env", "a value is not a string without NUL");
        node = json_following(place->json, env, value);
    }
    return true;
}

bool config_read_command(const struct json *json, uint32_t object, const char *path, struct command *command, char fault[FAULT_TEXT])
{
    struct place place = {json, object, path, fault};
    command->user = NULL;
    command->workdir = NULL;
    command->ulimit_count = 0;
    if (!read_argv(&place, command) || !read_env(&place, command))
        return false;
    if (place_find(&place, "user") != 0 && !place_text(&place, "user", NULL, &command->user))
        return false;
    if (place_find(&place, "workdir") == 0)
        return true;
    if (!place_text(&place, "workdir", NULL, &command->workdir))
        return false;
    return command->workdir[0] == '/' ? true : place_blame(&place, "workdir", "not an absolute path");
}

static bool read_restart(const struct place *workload, struct restart *restart)
{
    *restart = (struct restart){RESTART_ALWAYS, 500, 30000, 60000, 0};
    uint32_t node = place_find(workload, "restart");
    if (node == 0)
        return true;
    if (json_type(workload->json, node) != JSON_OBJECT)
        return place_blame(workload, "restart", "not an object");
    struct place place = {workload->json, node, "workloads[0].restart.", workload->fault};
    const char *policy;
    if (!place_text(&place, "policy", "always", &policy))
        return false;
    if (strcmp(policy, "never") == 0)
        restart->policy = RESTART_NEVER;
    else if (strcmp(policy, "on-failure") == 0)
        restart->policy = RESTART_ON_FAILURE;
    else if (strcmp(policy, "always") != 0)
        return place_blame(&place, "policy", "not always, on-failure or never");
    return place_small(&place, "initial_backoff_ms", 1, TIME_MAX_MS, 500, &restart->initial_backoff_ms) &&
           place_small(&place, "max_backoff_ms", 1, TIME_MAX_MS, 30000, &restart->max_backoff_ms) &&
           place_small(&place, "reset_after_ms", 1, TIME_MAX_MS, 60000, &restart->reset_after_ms) &&
           place_small(&place, "max_restarts", 0, RESTARTS_MAX, 0, &restart->max_restarts);
}

static bool read_workload(const struct place *root, struct config *config)
{
    uint32_t list = place_find(root, "workloads");
    if (list == 0 || json_type(root->json, list) != JSON_ARRAY || json_length(root->json, list) != 1)
        return place_blame(root, "workloads", list == 0 ? "missing" : "not a list of one");
    uint32_t node = json_first(root->json, list);
    struct place place = {root->json, node, "workloads[0].", root->fault};
    uint32_t stop_signal = 0;
    if (!place_text(&place, "name", NULL, &config->workload_name) ||
        !config_read_command(root->json, node, place.path, &config->command, place.fault) ||
        !place_small(&place, "stop_signal", 1, 64, 15, &stop_signal))
        return false;
    if (strspn(config->workload_name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(config->workload_name) ||
        config->workload_name[0] == '\0' || strlen(config->workload_name) > NAME_MAX_BYTES)
        return place_blame(&place, "name", "not 1 to 63 small letters, digits and hyphens");
    config->stop_signal = (int)stop_signal;
    if (config->command.user == NULL)
        config->command.user = "0:0";
    if (config->command.workdir == NULL)
        config->command.workdir = "/";
    return read_restart(&place, &config->restart) && demands_read(&place, config);
}

bool config_parse(struct config *config, char *document, size_t size, char fault[FAULT_TEXT])
{
    memset(config, 0, offsetof(struct config, json));
    struct place root = {&config->json, 0, "", fault};
    if (!json_parse(&config->json, document, size))
        return place_blame(&root, "", "not a JSON object");
    return read_identity(&root, config) && read_network(&root, config) && read_root(&root, config) &&
        mount_list_read(&root, config) && read_workload(&root, config);
}

void config_digest(const char *document, size_t size, char digest[DIGEST_TEXT])
{
    uint8_t bytes[32];
    sha256(document, size, bytes);
    strcpy(digest, "sha256:");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(digest + 7 + 2 * i, 3, "%02x", bytes[i]);
}
