/* In the place of a VM process: tries what one must not be able to do, and says what came of it, a line each. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result)
{
    printf("%s=%s\n", what, result >= 0 ? "done" : strerror(errno));
}

static void list(const char *path)
{
    DIR *directory = opendir(path);
    printf("list %s=", path);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            printf("%s ", entry->d_name);
    printf("\n");
}

static int look(int count, char **arguments)
{
    for (int i = 0; i < count; i++) {
        char what[4200];
        snprintf(what, sizeof what, "open %s", arguments[i]);
        say(what, open(arguments[i], O_RDONLY));
    }
    list("/");
    list("/proc");
    list("/dev");
    list("/sys/fs/cgroup");
    say("write /", open("/made", O_WRONLY | O_CREAT, 0600));
    say("write /dev", open("/dev/made", O_WRONLY | O_CREAT, 0600));
    say("signal holder", kill(getppid() == 0 ? 2 : getppid(), 0));
    say("socket unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("socket inet", socket(AF_INET, SOCK_STREAM, 0));
    say("socket netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    say("socket packet", socket(17, SOCK_RAW, 0));
    say("socket vsock", socket(40, SOCK_STREAM, 0));
    say("unshare user", unshare(CLONE_NEWUSER));
    say("clone namespaces", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    say("clone3", syscall(435, NULL, 0));
    say("setns", syscall(SYS_setns, 0, 0));
    say("bpf", syscall(SYS_bpf, 0, NULL, 0));
    say("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    say("io_uring", syscall(425, 1, NULL));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("chroot", chroot("/usr"));
    say("mknod", mknod("/dev/disk", S_IFBLK | 0600, 0));
    say("personality", syscall(SYS_personality, 0x0040000));
    say("personality query", syscall(SYS_personality, 0xffffffff));
    say("setuid", setuid(0));
    say("setgid", setgid(0));
    printf("pid=%d\n", (int)getpid());
    return 0;
}

static int die(const char *how)
{
    if (strcmp(how, "mount") == 0)
        syscall(SYS_mount, "none", "/usr", "tmpfs", 0, NULL);
    if (strcmp(how, "ptrace") == 0)
        syscall(SYS_ptrace, 0, 0, 0, 0);
    if (strcmp(how, "process_vm_readv") == 0)
        syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
    if (strcmp(how, "init_module") == 0)
        syscall(SYS_init_module, NULL, 0, "");
    if (strcmp(how, "kexec_load") == 0)
        syscall(SYS_kexec_load, 0, 0, NULL, 0);
    if (strcmp(how, "open_by_handle_at") == 0)
        syscall(SYS_open_by_handle_at, 0, NULL, 0);
#if defined(__x86_64__)
    if (strcmp(how, "x32") == 0)
        syscall(0x40000000 | SYS_getpid);
    if (strcmp(how, "i386") == 0) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    }
#endif
    if (strcmp(how, "segv") == 0)
        *(volatile int *)NULL = 0;
    if (strcmp(how, "abort") == 0)
        abort();
    return 1;
}

static int eat(size_t mib)
{
    for (size_t i = 0; i < mib; i++) {
        char *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED)
            return 3;
        memset(block, 1, 1 << 20);
    }
    return 0;
}

static int multiply(int most)
{
    int made = 0;
    for (; made < most; made++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
    printf("made=%d\n", made);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "look") == 0)
        return look(argc - 2, argv + 2);
    if (strcmp(argv[1], "die") == 0)
        return die(argv[2]);
    if (strcmp(argv[1], "eat") == 0)
        return eat(strtoul(argv[2], NULL, 10));
    if (strcmp(argv[1], "multiply") == 0)
        return multiply(atoi(argv[2]));
    if (strcmp(argv[1], "spin") == 0)
        for (;;)
            ;
    return 2;
}
