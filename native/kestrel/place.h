#ifndef KESTREL_PLACE_H
#define KESTREL_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

/* Where in a document we are: its members are read from here, and a fault is told with the path. */
struct place {
    const struct json *json;
    uint32_t object;
    const char *path; /* with its final point, or "" */
    char *fault; /* FAULT_TEXT bytes */
};

/* Always false, with the member at fault in `fault`. */
bool place_blame(const struct place *place, const char *member, const char *what);

/* The member's node, 0 when it is absent. */
uint32_t place_find(const struct place *place, const char *member);

/* False when the member is wrong, or absent without a fallback: NULL for a text, something below `low` for a number. */
bool place_text(const struct place *place, const char *member, const char *fallback, const char **text);
bool place_number(const struct place *place, const char *member, int64_t low, int64_t high, int64_t fallback, int64_t *value);
bool place_small(const struct place *place, const char *member, uint32_t low, uint32_t high, uint32_t fallback, uint32_t *value);
bool place_hex(const struct place *place, const char *member, uint8_t *bytes, size_t size);

/* The digit's value, -1 when it is none. */
int hex_digit(char c);

/* 1 to `longest` letters, digits and characters of `others`. */
bool is_made_of(const char *text, size_t longest, const char *others);

#endif
