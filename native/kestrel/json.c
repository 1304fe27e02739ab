#include "json.h"

#include <string.h>

struct reader {
    struct json *json;
    char *at;
    char *end;
};

static bool read_value(struct reader *reader, unsigned depth);

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r'))
        reader->at++;
}

static bool take(struct reader *reader, char wanted)
{
    if (reader->at == reader->end || *reader->at != wanted)
        return false;
    reader->at++;
    return true;
}

static struct json_node *add_node(struct reader *reader, enum json_type type)
{
    struct json *json = reader->json;
    if (json->count == JSON_NODES_MAX)
        return NULL;
    struct json_node *node = &json->nodes[json->count++];
    memset(node, 0, sizeof *node);
    node->tag = (uint32_t)type;
    return node;
}

static bool read_hex4(struct reader *reader, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        if (reader->at == reader->end)
            return false;
        char c = *reader->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t point)
{
    unsigned char *out = (unsigned char *)to;
    if (point < 0x80) {
        *out++ = (unsigned char)point;
    } else if (point < 0x800) {
        *out++ = (unsigned char)(0xc0 | point >> 6);
        *out++ = (unsigned char)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *out++ = (unsigned char)(0xe0 | point >> 12);
        *out++ = (unsigned char)(0x80 | (point >> 6 & 0x3f));
        *out++ = (unsigned char)(0x80 | (point & 0x3f));
    } else {
        *out++ = (unsigned char)(0xf0 | point >> 18);
        *out++ = (unsigned char)(0x80 | (point >> 12 & 0x3f));
        *out++ = (unsigned char)(0x80 | (point >> 6 & 0x3f));
        *out++ = (unsigned char)(0x80 | (point & 0x3f));
    }
    return (char *)out;
}

static bool read_escape(struct reader *reader, char **to)
{
    if (reader->at == reader->end)
        return false;
    char c = *reader->at++;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        break;
    case 'b':
        c = '\b';
        break;
    case 'f':
        c = '\f';
        break;
    case 'n':
        c = '\n';
        break;
    case 'r':
        c = '\r';
        break;
    case 't':
        c = '\t';
        break;
    case 'u': {
        uint32_t point, low;
        if (!read_hex4(reader, &point))
            return false;
        if (point >= 0xdc00 && point <= 0xdfff)
            return false;
        if (point >= 0xd800 && point <= 0xdbff) {
            if (!take(reader, '\\') || !take(reader, 'u') || !read_hex4(reader, &low) || low < 0xdc00 || low > 0xdfff)
                return false;
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        }
        *to = put_utf8(*to, point);
        return true;
    }
    default:
        return false;
    }
    *(*to)++ = c;
    return true;
}

/* Move one UTF-8 sequence of more than one byte, refusing what RFC 3629 refuses. */
static bool move_utf8(struct reader *reader, char **to)
{
    const unsigned char *in = (const unsigned char *)reader->at;
    size_t left = (size_t)(reader->end - reader->at);
    size_t length = in[0] >= 0xf0 ? 4 : in[0] >= 0xe0 ? 3 : 2;
    if (in[0] < 0xc2 || in[0] > 0xf4 || left < length)
        return false;
    for (size_t i = 1; i < length; i++)
        if ((in[i] & 0xc0) != 0x80)
            return false;
    if ((in[0] == 0xe0 && in[1] < 0xa0) || (in[0] == 0xed && in[1] > 0x9f) || (in[0] == 0xf0 && in[1] < 0x90) ||
        (in[0] == 0xf4 && in[1] > 0x8f))
        return false;
    memmove(*to, reader->at, length);
    *to += length;
    reader->at += length;
    return true;
}

static uint32_t hash_bytes(const char *bytes, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
    return hash & 0xfffffff0u;
}

static bool read_string(struct reader *reader)
{
    if (!take(reader, '"'))
        return false;
    char *start = reader->at;
    char *to = start;
    for (;;) {
        if (reader->at == reader->end)
            return false;
        unsigned char c = (unsigned char)*reader->at;
        if (c == '"')
            break;
        if (c < 0x20)
            return false;
        if (c >= 0x80) {
            if (!move_utf8(reader, &to))
                return false;
            continue;
        }
        reader->at++;
        if (c != '\\')
            *to++ = (char)c;
        else if (!read_escape(reader, &to))
            return false;
    }
    reader->at++;
    *to = '\0'; /* at or before the closing quote */
    struct json_node *node = add_node(reader, JSON_STRING);
    if (node == NULL)
        return false;
    node->start = (uint32_t)(start - reader->json->text);
    node->length = (uint32_t)(to - start);
    node->tag |= hash_bytes(start, node->length);
    return true;
}

static bool is_digit(const struct reader *reader)
{
    return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

static bool skip_digits(struct reader *reader)
{
    if (!is_digit(reader))
        return false;
    while (is_digit(reader))
        reader->at++;
    return true;
}

static bool read_number(struct reader *reader)
{
    bool negative = take(reader, '-');
    bool whole = true;
    int64_t value = 0;
    if (!is_digit(reader))
        return false;
    bool zero = *reader->at == '0';
    for (; is_digit(reader); reader->at++) {
        int64_t digit = *reader->at - '0';
        /* Built up on the negative side, which reaches one further. */
        if (whole && (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, digit, &value)))
            whole = false;
        if (zero) {
            reader->at++;
            if (is_digit(reader))
                return false;
            break;
        }
    }
    if (take(reader, '.')) {
        whole = false;
        if (!skip_digits(reader))
            return false;
    }
    if (take(reader, 'e') || take(reader, 'E')) {
        whole = false;
        if (!take(reader, '+'))
            take(reader, '-');
        if (!skip_digits(reader))
            return false;
    }
    if (whole && !negative && __builtin_sub_overflow((int64_t)0, value, &value))
        whole = false;
    struct json_node *node = add_node(reader, whole ? JSON_INTEGER : JSON_NUMBER);
    if (node == NULL)
        return false;
    node->integer = whole ? value : 0;
    return true;
}

static bool read_word(struct reader *reader, const char *word, enum json_type type)
{
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
        return false;
    reader->at += length;
    return add_node(reader, type) != NULL;
}

static bool are_names_unique(const struct json *json, uint32_t object)
{
    uint32_t end = json->nodes[object].next;
    for (uint32_t a = object + 1; a < end; a = json->nodes[json->nodes[a].next].next) {
        const struct json_node *first = &json->nodes[a];
        for (uint32_t b = json->nodes[first->next].next; b < end; b = json->nodes[json->nodes[b].next].next) {
            const struct json_node *second = &json->nodes[b];
            if (first->tag == second->tag && first->length == second->length &&
                memcmp(json->text + first->start, json->text + second->start, first->length) == 0)
                return false;
        }
    }
    return true;
}

static bool read_container(struct reader *reader, unsigned depth, bool object)
{
    struct json *json = reader->json;
    if (depth > JSON_DEPTH_MAX)
        return false;
    uint32_t self = json->count;
    if (add_node(reader, object ? JSON_OBJECT : JSON_ARRAY) == NULL)
        return false;
    reader->at++;
    skip_space(reader);
    char closing = object ? '}' : ']';
    uint32_t length = 0;
    if (!take(reader, closing)) {
        do {
            skip_space(reader);
            if (object) {
                uint32_t name = json->count;
                if (!read_string(reader))
                    return false;
                json->nodes[name].next = json->count;
                length++;
                skip_space(reader);
                if (!take(reader, ':'))
                    return false;
                skip_space(reader);
            }
            if (!read_value(reader, depth))
                return false;
            length++;
            skip_space(reader);
        } while (take(reader, ','));
        if (!take(reader, closing))
            return false;
    }
    json->nodes[self].length = length;
    json->nodes[self].next = json->count;
    return !object || are_names_unique(json, self);
}

static bool read_value(struct reader *reader, unsigned depth)
{
    if (reader->at == reader->end)
        return false;
    uint32_t self = reader->json->count;
    bool done;
    switch (*reader->at) {
    case '{':
        return read_container(reader, depth + 1, true);
    case '[':
        return read_container(reader, depth + 1, false);
    case '"':
        done = read_string(reader);
        break;
    case 't':
        done = read_word(reader, "true", JSON_TRUE);
        break;
    case 'f':
        done = read_word(reader, "false", JSON_FALSE);
        break;
    case 'n':
        done = read_word(reader, "null", JSON_NULL);
        break;
    default:
        done = read_number(reader);
        break;
    }
    if (done)
        reader->json->nodes[self].next = reader->json->count;
    return done;
}

bool json_parse(struct json *json, char *text, size_t size)
{
    if (size > JSON_TEXT_MAX)
        return false;
    json->text = text;
    json->size = (uint32_t)size;
    json->count = 0;
    struct reader reader = {json, text, text + size};
    skip_space(&reader);
    if (reader.at == reader.end || *reader.at != '{' || !read_value(&reader, 0))
        return false;
    skip_space(&reader);
    return reader.at == reader.end;
}

enum json_type json_type(const struct json *json, uint32_t node)
{
    return (enum json_type)(json->nodes[node].tag & 15);
}

uint32_t json_length(const struct json *json, uint32_t node)
{
    return json->nodes[node].length;
}

uint32_t json_first(const struct json *json, uint32_t container)
{
    return json->nodes[container].length > 0 ? container + 1 : 0;
}

uint32_t json_following(const struct json *json, uint32_t container, uint32_t node)
{
    uint32_t next = json->nodes[node].next;
    return next < json->nodes[container].next ? next : 0;
}

uint32_t json_member(const struct json *json, uint32_t object, const char *name)
{
    if (json_type(json, object) != JSON_OBJECT)
        return 0;
    size_t length = strlen(name);
    for (uint32_t at = json_first(json, object); at != 0; at = json_following(json, object, json->nodes[at].next)) {
        const struct json_node *node = &json->nodes[at];
        if (node->length == length && memcmp(json->text + node->start, name, length) == 0)
            return node->next;
    }
    return 0;
}

const char *json_text(const struct json *json, uint32_t node)
{
    if (node == 0 || json_type(json, node) != JSON_STRING)
        return NULL;
    const char *text = json->text + json->nodes[node].start;
    return memchr(text, '\0', json->nodes[node].length) == NULL ? text : NULL;
}

bool json_integer(const struct json *json, uint32_t node, int64_t *value)
{
    if (node == 0 || json_type(json, node) != JSON_INTEGER)
        return false;
    *value = json->nodes[node].integer;
    return true;
}
