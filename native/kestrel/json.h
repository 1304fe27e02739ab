#ifndef KESTREL_JSON_H
#define KESTREL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 8259, decoded in place: strings are unescaped inside the text and end with NUL there. */

enum json_type { JSON_OBJECT = 1, JSON_ARRAY, JSON_STRING, JSON_INTEGER, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL };

enum {
    JSON_DEPTH_MAX = 16,
    JSON_TEXT_MAX = 65536,
    JSON_NODES_MAX = JSON_TEXT_MAX / 2 + 4, /* a value takes at least two bytes of text */
};

struct json_node {
    union {
        struct {
            uint32_t start;
            uint32_t length; /* bytes of a string, children of an array, names and values of an object */
        };
        int64_t integer;
    };
    uint32_t next; /* the node behind this one and all it holds */
    uint32_t tag;  /* type in the low 4 bits, hash of a string above */
};

struct json {
    char *text;
    uint32_t size;
    uint32_t count;
    struct json_node nodes[JSON_NODES_MAX];
};

/* Decode one object. False when it is anything else; `text` is then of no use. */
bool json_parse(struct json *json, char *text, size_t size);

/* Node 0 is the object itself, so 0 stands for "absent" everywhere below. */
enum json_type json_type(const struct json *json, uint32_t node);
uint32_t json_member(const struct json *json, uint32_t object, const char *name);

/* Walk what a container holds; an object yields name, value, name, value… */
uint32_t json_first(const struct json *json, uint32_t container);
uint32_t json_following(const struct json *json, uint32_t container, uint32_t node);
uint32_t json_length(const struct json *json, uint32_t node);

/* NULL when the node is absent, no string, or holds a NUL. */
const char *json_text(const struct json *json, uint32_t node);
bool json_integer(const struct json *json, uint32_t node, int64_t *value);

#endif
