#ifndef KESTREL_TEST_LEASES_H
#define KESTREL_TEST_LEASES_H

void test_leases(void);

#endif
