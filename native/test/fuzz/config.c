/* The configuration document. */

#include "config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct config config;
    char fault[FAULT_TEXT] = "", digest[DIGEST_TEXT];
    if (size > JSON_TEXT_MAX || memchr(bytes, 0, size) != NULL)
        return 0; /* it comes as a string without NUL */
    char *own = malloc(size + 1);
    if (own == NULL)
        abort();
    memcpy(own, bytes, size);
    own[size] = '\0';
    config_digest(own, size, digest);
    if (config_parse(&config, own, size, fault)) {
        fuzz_must(config.command.argv[0] != NULL && config.workload_name != NULL && config.hostname != NULL, "something needed is missing");
        fuzz_must(config.interface_count <= INTERFACES_MAX && config.nameserver_count <= NAMESERVERS_MAX, "more than there is room for");
    } else {
        fuzz_must(strchr(fault, ':') != NULL, "no member is blamed");
    }
    free(own);
    return 0;
}
