#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

void check(bool good, const char *table, const char *name, const char *what)
{
    checks++;
    if (good)
        return;
    failures++;
    fprintf(stderr, "FAILED %s: %s: %s\n", table, name, what);
}

uint8_t *copy(const uint8_t *bytes, size_t length)
{
    uint8_t *own = malloc(length > 0 ? length : 1);
    if (own == NULL)
        abort();
    if (length > 0)
        memcpy(own, bytes, length);
    return own;
}

int check_report(const char *program)
{
    printf("%s: %d checks, %d failed\n", program, checks, failures);
    return failures == 0 ? 0 : 1;
}

static void put(struct text *text, const char *piece)
{
    size_t length = strlen(piece);
    if (text->length + length < sizeof text->bytes) {
        memcpy(text->bytes + text->length, piece, length + 1);
        text->length += length;
    }
}

void flatten(const struct json *json, uint32_t node, struct text *text)
{
    char number[32];
    const struct json_node *own = &json->nodes[node];
    switch (json_type(json, node)) {
    case JSON_OBJECT:
        put(text, "{");
        for (uint32_t at = json_first(json, node), first = 1; at != 0; first = 0) {
            put(text, first ? "" : ",");
            flatten(json, at, text);
            put(text, ":");
            at = json_following(json, node, at);
            flatten(json, at, text);
            at = json_following(json, node, at);
        }
        put(text, "}");
        break;
    case JSON_ARRAY:
        put(text, "[");
        for (uint32_t at = json_first(json, node), first = 1; at != 0; at = json_following(json, node, at), first = 0) {
            put(text, first ? "" : ",");
            flatten(json, at, text);
        }
        put(text, "]");
        break;
    case JSON_STRING:
        put(text, "'");
        for (uint32_t i = 0; i < own->length; i++) {
            snprintf(number, sizeof number, "%02x", (unsigned char)json->text[own->start + i]);
            put(text, number);
        }
        put(text, "'");
        break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)own->integer);
        put(text, number);
        break;
    case JSON_NUMBER:
        put(text, "n");
        break;
    case JSON_TRUE:
        put(text, "true");
        break;
    case JSON_FALSE:
        put(text, "false");
        break;
    case JSON_NULL:
        put(text, "null");
        break;
    }
}
