#include "identity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "console.h"
#include "hostfiles.h"
#include "writer.h"

enum { FILE_SIZE = 65536 };

static char content[FILE_SIZE];

static void put(const char *name, const struct writer *writer)
{
    if (writer->overflow)
        console_say("/etc/%s would be too long", name);
    else if (!hostfiles_replace(name, writer->bytes, writer->length))
        console_say("cannot write /etc/%s: %s", name, strerror(errno));
}

static struct writer begin(void)
{
    return (struct writer){.bytes = content, .capacity = sizeof content};
}

static void write_line(const char *name, const char *line)
{
    struct writer writer = begin();
    write_text(&writer, line);
    write_text(&writer, "\n");
    put(name, &writer);
}

static void write_hosts(const struct config *config)
{
    const struct json *json = &config->json;
    struct writer writer = begin();
    write_text(&writer, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    bool named = false;
    for (uint32_t node = config->hosts == 0 ? 0 : json_first(json, config->hosts); node != 0;) {
        uint32_t names = json_following(json, config->hosts, node);
        write_text(&writer, json_text(json, node));
        for (uint32_t name = json_first(json, names); name != 0; name = json_following(json, names, name)) {
            write_text(&writer, " ");
            write_text(&writer, json_text(json, name));
            named = named || strcmp(json_text(json, name), config->hostname) == 0;
        }
        write_text(&writer, "\n");
        node = json_following(json, config->hosts, names);
    }
    if (!named) {
        write_text(&writer, "127.0.1.1\t");
        write_text(&writer, config->hostname);
        write_text(&writer, "\n");
    }
    put("hosts", &writer);
}

void identity_write(const struct config *config)
{
    write_line("hostname", config->hostname);
    write_line("machine-id", config->machine_id);
    write_hosts(config);
    if (config->nameserver_count == 0)
        return; /* the image's own, if any, is as good */
    struct writer writer = begin();
    for (size_t i = 0; i < config->nameserver_count; i++) {
        write_text(&writer, "nameserver ");
        write_text(&writer, config->nameservers[i]);
        write_text(&writer, "\n");
    }
    put("resolv.conf", &writer);
}

void identity_write_nameservers(const struct lease *lease)
{
    struct writer writer = begin();
    for (size_t i = 0; i < lease->nameserver_count; i++) {
        char text[INET_ADDRSTRLEN];
        write_text(&writer, "nameserver ");
        write_text(&writer, inet_ntop(AF_INET, &lease->nameservers[i], text, sizeof text));
        write_text(&writer, "\n");
    }
    put("resolv.conf", &writer);
}
