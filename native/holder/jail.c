#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"
#include "root.h"

enum { CAPABILITIES_END = 64 };

#define OOM_SCORE "300"

static int report = -1;

static _Noreturn void fail(const char *what)
{
    struct jail_fault fault = {.error = errno};
    snprintf(fault.what, sizeof fault.what, "%s", what);
    ssize_t written = write(report, &fault, sizeof fault);
    _exit(written == sizeof fault ? 127 : 126);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        sigaction(number, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int compare_fds(const void *a, const void *b)
{
    int first = *(const int *)a, second = *(const int *)b;
    return (first > second) - (first < second);
}

static void close_between(unsigned first, unsigned last)
{
    if (first > last)
        return;
    if (syscall(SYS_close_range, first, last, 0) == 0)
        return;
    if (errno != ENOSYS)
        fail("close_range");
    long highest = sysconf(_SC_OPEN_MAX);
    for (unsigned fd = first; fd <= last && (long)fd < highest; fd++)
        close((int)fd);
}

/* Everything but 0 to 2, what is kept, and the report. */
static void place_descriptors(const struct options *options, int output_fd)
{
    int kept[KEEP_MAX + 1];
    size_t count = 0;
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0)
        fail("standard descriptors");
    if ((options->stdin_fd >= 0 && dup2(options->stdin_fd, 0) < 0) || (options->stdout_fd >= 0 && dup2(options->stdout_fd, 1) < 0))
        fail("standard descriptors");
    for (size_t i = 0; i < options->keep_count; i++) {
        int flags = fcntl(options->keep[i], F_GETFD);
        if (flags < 0 || fcntl(options->keep[i], F_SETFD, flags & ~FD_CLOEXEC) != 0)
            fail("kept descriptor");
        kept[count++] = options->keep[i];
    }
    kept[count++] = report;
    qsort(kept, count, sizeof kept[0], compare_fds);
    unsigned next = 3;
    for (size_t i = 0; i < count; i++) {
        if (kept[i] < 3)
            continue;
        if ((unsigned)kept[i] > next)
            close_between(next, (unsigned)kept[i] - 1);
        next = (unsigned)kept[i] + 1;
    }
    close_between(next, ~0u);
}

static void set_capabilities(uint64_t wanted, const char *what)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{(uint32_t)wanted, (uint32_t)wanted, 0}, {(uint32_t)(wanted >> 32), (uint32_t)(wanted >> 32), 0}};
    if (syscall(SYS_capset, &head, data) != 0 && what != NULL)
        fail(what);
}

static void drop_bounding_set(void)
{
    for (unsigned long capability = 0; capability < CAPABILITIES_END; capability++)
        if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1)
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

/* Never more than the holder itself may have. */
static void limit(int resource, rlim_t most)
{
    struct rlimit held;
    if (most == RLIM_INFINITY)
        return;
    if (getrlimit(resource, &held) != 0)
        fail("getrlimit");
    held.rlim_max = held.rlim_max < most ? held.rlim_max : most;
    held.rlim_cur = held.rlim_max;
    if (setrlimit(resource, &held) != 0)
        fail("setrlimit");
}

/*
 * Before anything of size is done, so that all of it is accounted for there. To write 0 into a version 1 group's tasks is the one
 * move that waits for nobody else on the host; in version 2 the child was born there, where the kernel can (5.7).
 */
static void join_cgroups(const struct options *options, bool is_born_there)
{
    for (size_t i = 0; i < options->cgroup_count; i++) {
        int fd = options->cgroups[i];
        if (options_is_directory(fd)) {
            if (is_born_there)
                continue;
            fd = openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        }
        if (fd < 0 || write(fd, "0", 1) != 1)
            fail("control group");
    }
}

/* When the host is short of memory a VM goes before what it was started by, and before what it runs beside. */
static void offer_to_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, OOM_SCORE, sizeof OOM_SCORE - 1) < 0)
        fail("oom_score_adj");
    close(fd);
}

/* The holder alone reads the report. A parent outside this process namespace has no number here to ask for. */
static bool is_abandoned(void)
{
    struct pollfd watched = {.fd = report, .events = 0};
    return poll(&watched, 1, 0) != 0;
}

static void drop_rights(const struct options *options)
{
    drop_bounding_set();
    if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0) != 0)
        fail("securebits");
    if (setgroups(options->group_count, options->groups) != 0)
        fail("setgroups");
    if (setresgid(options->gid, options->gid, options->gid) != 0)
        fail("setresgid");
    if (setresuid(options->uid, options->uid, options->uid) != 0)
        fail("setresuid");
    set_capabilities(0, "capset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("no_new_privs");
}

_Noreturn void jail_enter(const struct options *options, int output_fd, int report_fd, bool is_born_there)
{
    report = report_fd;
    setsid();
    reset_signals();
    umask(077);
    join_cgroups(options, is_born_there);
    offer_to_oom_killer();
    place_descriptors(options, output_fd);
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) != 0)
        fail("unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        fail("private mounts");
    const char *failed = root_enter(options);
    if (failed != NULL)
        fail(failed);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, options->nofile);
    limit(RLIMIT_NPROC, options->processes);
    limit(RLIMIT_MEMLOCK, options->memlock);
    drop_rights(options);
    /* A change of user clears this, so it stands behind it; the holder may have died meanwhile. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        fail("parent death signal");
    if (is_abandoned())
        _exit(126);
    failed = filter_program();
    if (failed != NULL)
        fail(failed);
    execv(options->command[0], options->command);
    fail(options->command[0]);
}

void jail_drop_own_rights(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* Both SIGKILL and the kernel's parent death signal ask for it, since the child is another user's. */
    set_capabilities((uint64_t)1 << CAP_KILL, NULL);
    /* A kernel without it has the jail all the same, and the holder reads nothing but bytes. */
    filter_holder();
}
