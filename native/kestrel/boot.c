#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"

static const struct {
    const char *type;
    const char *target;
    unsigned long flags;
    const char *data;
} MOUNTS[] = {
    {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755"},
    {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
    {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
};

static const char *const LINKS[][2] = {
    {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};

static void open_descriptors(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < 3; fd = open("/dev/null", O_RDWR))
        if (fd == 2)
            break;
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    console_open(console);
}

void boot_mount(void)
{
    const char *failed = NULL;
    int error = 0;
    umask(022);
    for (size_t i = 0; i < sizeof MOUNTS / sizeof MOUNTS[0]; i++) {
        mkdir(MOUNTS[i].target, 0755);
        if (mount(MOUNTS[i].type, MOUNTS[i].target, MOUNTS[i].type, MOUNTS[i].flags, MOUNTS[i].data) != 0 && errno != EBUSY && failed == NULL) {
            failed = MOUNTS[i].target;
            error = errno;
        }
    }
    for (size_t i = 0; i < sizeof LINKS / sizeof LINKS[0]; i++)
        if (symlink(LINKS[i][0], LINKS[i][1]) != 0 && errno != EEXIST)
            failed = LINKS[i][1];
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    open_descriptors();
    if (failed != NULL)
        console_say("%s: %s", failed, strerror(error)); /* a workload may live without it */
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 524288});
    reboot(RB_DISABLE_CAD); /* ctrl-alt-del comes as a signal */
}

bool boot_option(const char *name, char *value, size_t size)
{
    char line[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return false;
    line[length] = '\0';
    char *rest = line;
    for (char *word = strtok_r(line, " \n", &rest); word != NULL; word = strtok_r(NULL, " \n", &rest)) {
        size_t prefix = strlen(name);
        if (strncmp(word, name, prefix) != 0 || strlen(word + prefix) >= size)
            continue;
        strcpy(value, word + prefix);
        return true;
    }
    return false;
}

_Noreturn void boot_fail(const char *what, const char *why)
{
    console_say("cannot boot: %s: %s", what, why);
    sync();
    for (;;) {
        reboot(RB_POWER_OFF);
        pause();
    }
}
