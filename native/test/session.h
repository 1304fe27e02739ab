#ifndef KESTREL_TEST_SESSION_H
#define KESTREL_TEST_SESSION_H

#include <stddef.h>

void test_session(size_t chunk);
void test_request(void);
void test_turns(void);

#endif
