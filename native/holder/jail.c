#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* As in the kernel's capability.h, which a musl toolchain does not bring. */
#define CAPABILITY_VERSION_3 0x20080522
struct capability_header {
    unsigned int version;
    int pid;
};
struct capability_data {
    unsigned int effective, permitted, inheritable;
};

static bool drop_bounding_set(void) {
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
            if (errno == EINVAL) return capability > 0; /* beyond the last one that this kernel knows */
            return false;
        }
    }
    return true;
}

bool jail_drop_capabilities(void) {
    if (!drop_bounding_set()) return false;
    struct capability_header header = {.version = CAPABILITY_VERSION_3, .pid = 0};
    struct capability_data none[2] = {{0, 0, 0}, {0, 0, 0}};
    if (syscall(SYS_capset, &header, none) < 0) return false;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static bool reset_signals(void) {
    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool limit_resources(const struct options *options) {
    struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &no_core) < 0) return false;
    if (options->file_limit > 0) {
        struct rlimit files = {(rlim_t)options->file_limit, (rlim_t)options->file_limit};
        if (setrlimit(RLIMIT_NOFILE, &files) < 0) return false;
    }
    return true;
}

static bool arrange_descriptors(const struct options *options, int output_fd) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(output_fd, 1) < 0 || dup2(output_fd, 2) < 0) return false;
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0) return false;
    for (size_t i = 0; i < options->kept_count; i++) {
        if (fcntl(options->kept[i], F_SETFD, 0) < 0) return false;
    }
    return true;
}

void jail_enter(const struct options *options, int output_fd, pid_t parent, const char **step) {
    *step = "new namespaces";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0) return;
    *step = "private mounts";
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return;
    *step = "descriptors";
    if (!arrange_descriptors(options, output_fd)) return;
    *step = "resource limits";
    if (!limit_resources(options)) return;
    *step = "the capability bounding set";
    if (!drop_bounding_set()) return;
    *step = "groups";
    if (setgroups(options->group_count, options->groups) < 0) return;
    if (setresgid(options->gid, options->gid, options->gid) < 0) return;
    *step = "the user";
    if (setresuid(options->uid, options->uid, options->uid) < 0) return;
    *step = "no new privileges";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return;
    /* After the change of user, which clears it. */
    *step = "the parent-death signal";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return;
    if (getppid() != parent) {
        errno = ESRCH;
        return;
    }
    *step = "signals";
    if (!reset_signals()) return;
    *step = options->command[0];
    execv(options->command[0], options->command);
}
