#include "descriptors.h"

#include <sys/resource.h>

enum { WANTED = 8192 };

static struct rlimit usual;

void descriptors_raise(void)
{
    struct rlimit raised;
    if (getrlimit(RLIMIT_NOFILE, &usual) != 0)
        return;
    raised = usual;
    raised.rlim_cur = usual.rlim_max < WANTED ? usual.rlim_max : WANTED;
    if (raised.rlim_cur > usual.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &raised);
}

void descriptors_restore(void)
{
    if (usual.rlim_max != 0)
        setrlimit(RLIMIT_NOFILE, &usual);
}
