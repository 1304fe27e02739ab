#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#define FOREIGN 0x40000000u /* x32 shares the architecture's number */
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#error "no filter for this architecture"
#endif

#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442
#endif
#ifndef __NR_quotactl_fd
#define __NR_quotactl_fd 443
#endif
#ifndef __NR_process_madvise
#define __NR_process_madvise 440
#endif

enum { FILTER_MAX = 400 };

#define DENIED(error) (SECCOMP_RET_ERRNO | (error))

struct program {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
    int is_full;
};

/* Nothing that runs as nobody, without capabilities, tries one of these in good faith. */
static const int NEVER[] = {
    __NR_ptrace, __NR_process_vm_readv, __NR_process_vm_writev, __NR_process_madvise,
    __NR_init_module, __NR_finit_module, __NR_delete_module, __NR_kexec_load,
#ifdef __NR_kexec_file_load
    __NR_kexec_file_load,
#endif
    __NR_reboot, __NR_swapon, __NR_swapoff, __NR_acct, __NR_quotactl, __NR_quotactl_fd,
    __NR_mount, __NR_umount2, __NR_pivot_root, __NR_mount_setattr,
#ifdef __NR_move_mount
    __NR_move_mount, __NR_open_tree, __NR_fsopen, __NR_fsconfig, __NR_fsmount, __NR_fspick,
#endif
    __NR_open_by_handle_at, __NR_settimeofday, __NR_clock_settime, __NR_sethostname, __NR_setdomainname,
#ifdef __NR_iopl
    __NR_iopl, __NR_ioperm,
#endif
};

/* A library may ask whether the kernel has it, and does without. */
static const int REFUSED[] = {
    __NR_bpf, __NR_perf_event_open, __NR_add_key, __NR_request_key, __NR_keyctl, __NR_unshare, __NR_setns, __NR_chroot,
    __NR_userfaultfd, __NR_fanotify_init, __NR_name_to_handle_at, __NR_kcmp, __NR_syslog, __NR_lookup_dcookie, __NR_vhangup,
    __NR_adjtimex, __NR_clock_adjtime, __NR_migrate_pages, __NR_move_pages,
#ifdef __NR_mknod
    __NR_mknod,
#endif
    __NR_mknodat,
#ifdef __NR_modify_ldt
    __NR_modify_ldt, __NR_uselib, __NR_ustat, __NR_sysfs, __NR__sysctl,
#endif
#ifdef __NR_io_uring_setup
    __NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register,
#endif
#ifdef __NR_pidfd_getfd
    __NR_pidfd_getfd,
#endif
};

/* What the holder does after its start: wait, copy bytes, write logs and records, end its child and itself. */
static const int HOLDER[] = {
    __NR_read, __NR_write, __NR_readv, __NR_writev, __NR_close, __NR_fcntl, __NR_fstat, __NR_newfstatat, __NR_lseek,
    __NR_openat, __NR_renameat, __NR_renameat2, __NR_unlinkat,
#ifdef __NR_open
    __NR_open, __NR_poll,
#endif
    __NR_ppoll, __NR_accept4, __NR_sendto, __NR_recvfrom, __NR_kill, __NR_wait4, __NR_waitid, __NR_getpid, __NR_getuid,
    __NR_clock_gettime, __NR_gettimeofday, __NR_rt_sigprocmask, __NR_rt_sigaction, __NR_rt_sigreturn,
    __NR_restart_syscall, __NR_brk, __NR_mmap, __NR_munmap, __NR_exit, __NR_exit_group,
};

/* By clone(2)'s flags; fork(2) and threads pass. */
enum { NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP };

static void put(struct program *program, struct sock_filter statement)
{
    if (program->length == FILTER_MAX)
        program->is_full = 1;
    else
        program->code[program->length++] = statement;
}

static void put_load(struct program *program, size_t offset)
{
    put(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void put_return(struct program *program, uint32_t action)
{
    put(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void put_jump(struct program *program, unsigned short test, uint32_t value, unsigned char if_true, unsigned char if_false)
{
    put(program, (struct sock_filter)BPF_JUMP(BPF_JMP | test | BPF_K, value, if_true, if_false));
}

static void put_calls(struct program *program, const int *calls, size_t count, uint32_t action)
{
    for (size_t i = 0; i < count; i++) {
        put_jump(program, BPF_JEQ, (uint32_t)calls[i], 0, 1);
        put_return(program, action);
    }
}

static size_t low_word(size_t argument)
{
    /* Both architectures are little endian; what the kernel takes of these arguments is an int. */
    return offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t);
}

/* The accumulator holds the call's number afterwards. */
static void begin(struct program *program)
{
    put_load(program, offsetof(struct seccomp_data, arch));
    put_jump(program, BPF_JEQ, OWN_ARCH, 1, 0);
    put_return(program, SECCOMP_RET_KILL_PROCESS);
    put_load(program, offsetof(struct seccomp_data, nr));
#ifdef FOREIGN
    put_jump(program, BPF_JGE, FOREIGN, 0, 1);
    put_return(program, SECCOMP_RET_KILL_PROCESS);
#endif
}

/* `call` passes where its argument equals `value`, and fails with EPERM else. */
static void put_equal(struct program *program, int call, size_t argument, uint32_t value)
{
    put_jump(program, BPF_JEQ, (uint32_t)call, 0, 4);
    put_load(program, low_word(argument));
    put_jump(program, BPF_JEQ, value, 0, 1);
    put_return(program, SECCOMP_RET_ALLOW);
    put_return(program, DENIED(EPERM));
}

static const char *install(struct program *program)
{
    struct sock_fprog handed = {.len = program->length, .filter = program->code};
    if (program->is_full) {
        errno = E2BIG;
        return "filter";
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "no_new_privs";
    return syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &handed) == 0 ? NULL : "seccomp";
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

const char *filter_program(void)
{
    static struct program program;
    begin(&program);
    put_calls(&program, NEVER, COUNT(NEVER), SECCOMP_RET_KILL_PROCESS);
    put_calls(&program, REFUSED, COUNT(REFUSED), DENIED(EPERM));
    /* Its flags lie in memory, where a filter cannot look; without it libraries make threads by clone(2). */
    put_jump(&program, BPF_JEQ, __NR_clone3, 0, 1);
    put_return(&program, DENIED(ENOSYS));
    put_jump(&program, BPF_JEQ, __NR_clone, 0, 4);
    put_load(&program, low_word(0));
    put_jump(&program, BPF_JSET, (uint32_t)NEW_NAMESPACES, 1, 0);
    put_return(&program, SECCOMP_RET_ALLOW);
    put_return(&program, DENIED(EPERM));
    put_equal(&program, __NR_socket, 0, AF_UNIX);
    put_equal(&program, __NR_socketpair, 0, AF_UNIX);
    put_equal(&program, __NR_personality, 0, 0xffffffffu); /* which only asks */
    put_return(&program, SECCOMP_RET_ALLOW);
    return install(&program);
}

const char *filter_holder(void)
{
    static struct program program;
    begin(&program);
    put_calls(&program, HOLDER, COUNT(HOLDER), SECCOMP_RET_ALLOW);
    put_calls(&program, NEVER, COUNT(NEVER), SECCOMP_RET_KILL_PROCESS);
    put_return(&program, DENIED(EPERM));
    return install(&program);
}
