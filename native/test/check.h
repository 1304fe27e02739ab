#ifndef KESTREL_TEST_CHECK_H
#define KESTREL_TEST_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

/* What the tests share: counting, and values as text. */

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

void check(bool good, const char *table, const char *name, const char *what);

/* Say how it went; main's status. */
int check_report(const char *program);

/* A copy on the heap, of exactly the right size, so that the sanitizer sees one byte too far. */
uint8_t *copy(const uint8_t *bytes, size_t length);

struct text {
    size_t length;
    char bytes[4096];
};

/* As make_vectors.py's flatten does. */
void flatten(const struct json *json, uint32_t node, struct text *text);

#endif
