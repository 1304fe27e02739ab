#include "place.h"

#include <stdio.h>
#include <string.h>

#include "config.h"

bool place_blame(const struct place *place, const char *member, const char *what)
{
    snprintf(place->fault, FAULT_TEXT, "%s%s: %s", place->path, member, what);
    return false;
}

uint32_t place_find(const struct place *place, const char *member)
{
    return json_member(place->json, place->object, member);
}

bool place_text(const struct place *place, const char *member, const char *fallback, const char **text)
{
    uint32_t node = place_find(place, member);
    *text = node == 0 ? fallback : json_text(place->json, node);
    if (*text == NULL)
        return place_blame(place, member, node == 0 ? "missing" : "not a string without NUL");
    return true;
}

bool place_number(const struct place *place, const char *member, int64_t low, int64_t high, int64_t fallback, int64_t *value)
{
    uint32_t node = place_find(place, member);
    if (node == 0 && fallback >= low) {
        *value = fallback;
        return true;
    }
    if (!json_integer(place->json, node, value))
        return place_blame(place, member, node == 0 ? "missing" : "not an integer");
    if (*value < low || *value > high)
        return place_blame(place, member, "out of range");
    return true;
}

bool place_small(const struct place *place, const char *member, uint32_t low, uint32_t high, uint32_t fallback, uint32_t *value)
{
    int64_t number = 0;
    bool good = place_number(place, member, low, high, fallback, &number);
    *value = (uint32_t)number;
    return good;
}

int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool place_hex(const struct place *place, const char *member, uint8_t *bytes, size_t size)
{
    const char *text;
    if (!place_text(place, member, NULL, &text))
        return false;
    if (strlen(text) != 2 * size)
        return place_blame(place, member, "wrong number of digits");
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return place_blame(place, member, "not hexadecimal");
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool is_made_of(const char *text, size_t longest, const char *others)
{
    size_t length = strlen(text);
    if (length == 0 || length > longest)
        return false;
    for (const char *at = text; *at != '\0'; at++)
        if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || strchr(others, *at) != NULL))
            return false;
    return true;
}
