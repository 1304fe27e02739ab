#ifndef KESTREL_TEST_TALK_H
#define KESTREL_TEST_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

/* A session with the agent in this process, and its control stream. */

void talk_begin(void);
void talk_end(void);

/* Send a whole message, its length included. */
void talk_send(const uint8_t *bytes, size_t length);

/* Take what the agent has to say by now. */
void talk_hear(void);

/* The answer with this number among what was said since talk_begin. */
bool talk_find(struct json *json, int64_t number);

#endif
