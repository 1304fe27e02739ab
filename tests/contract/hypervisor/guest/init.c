// The guest of the driver contract: PID 1 that answers preambles (docs/guest-protocol.md, section 2) and obeys single letters
// sent after one. P powers off, R resets, X panics, C prints "abc" to the console, I answers what it was given and ends with a dot,
// f and g fill 4 MiB with themselves and z with zeros, N counts and tells what they hold.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

static const unsigned char ask[8] = {'V', 'O', 'L', 'A', 'N', 'T', 0, 1};
static const unsigned char answer[8] = {'V', 'O', 'L', 'A', 'N', 'T', 1, 1};

static void load_modules(void) {
    FILE *list = fopen("/etc/kestrel/modules", "re");
    char path[512];
    while (list && fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)) printf("guest: %s: %s\n", path, strerror(errno));
        if (fd >= 0) close(fd);
    }
    if (list) fclose(list);
}

static void read_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, size - 1);
    text[got < 0 ? 0 : got] = 0;
    text[strcspn(text, "\n")] = 0;
    if (fd >= 0) close(fd);
}

static int open_port(void) {
    for (;;) {
        DIR *ports = opendir("/sys/class/virtio-ports");
        struct dirent *entry;
        while (ports && (entry = readdir(ports))) {
            char path[512], name[64];
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            read_text(path, name, sizeof name);
            if (strcmp(name, "volant.agent")) continue;
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
            if (fd >= 0) return closedir(ports), fd;
        }
        if (ports) closedir(ports);
        usleep(2000);
    }
}

// A port takes one buffer at a time, and gives the last one back when it finds the time.
static void say(int port, const void *bytes, size_t size) {
    ssize_t sent = write(port, bytes, size);
    for (int tries = 0; sent < 0 && errno == EAGAIN && tries < 2000; tries++) {
        usleep(1000);
        sent = write(port, bytes, size);
    }
    if (sent != (ssize_t)size) printf("guest: %zu bytes did not fit\n", size);
}

static void tell_of(int port, const char *directory, const char *file) {
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        char path[600], text[2048];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s/%s", directory, entry->d_name, file);
        read_text(path, text, sizeof text);
        dprintf(port, "%s %s=%s\n", file, entry->d_name, text);
    }
    if (entries) closedir(entries);
}

static void tell(int port) {
    char text[2048];
    read_text("/proc/cmdline", text, sizeof text);
    dprintf(port, "cmdline %s\n", text);
    read_text("/sys/class/misc/hw_random/rng_current", text, sizeof text);
    dprintf(port, "rng %s\n", text);
    tell_of(port, "/sys/block", "serial");
    tell_of(port, "/sys/block", "ro");
    tell_of(port, "/sys/class/net", "address");
    dprintf(port, "cpus %ld\n.", sysconf(_SC_NPROCESSORS_ONLN));
}

enum { BALLAST = 4 << 20 };
static int count;
static char *ballast;

/* Pages that are written, so that a copy has some of its own. */
static void fill(char letter) {
    if (!ballast) ballast = mmap(0, BALLAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(ballast, letter == 'z' ? 0 : letter, BALLAST);
}

/* How much memory the kernel says is free, in kB. */
static void tell_memory(int port) {
    struct sysinfo info = {0};
    sysinfo(&info);
    dprintf(port, "%lu.", info.freeram * info.mem_unit / 1024);
}

/* A quarter of a MiB to the first disk, and none of it kept in memory. */
static void write_disk(int port) {
    static char block[1 << 18];
    int fd = open("/dev/vda", O_WRONLY | O_CLOEXEC);
    memset(block, 'w', sizeof block);
    int good = fd >= 0 && write(fd, block, sizeof block) == (ssize_t)sizeof block && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    say(port, good ? "w." : "-.", 2);
}

static void obey(int port, char letter) {
    if (letter == 'N') {
        char text[32];
        char held = !ballast ? '-' : ballast[BALLAST - 1] ? ballast[BALLAST - 1] : '0';
        say(port, text, (size_t)snprintf(text, sizeof text, "%d%c.", ++count, held));
    }
    if (letter == 'f' || letter == 'g' || letter == 'z') fill(letter);
    if (letter == 'P') reboot(RB_POWER_OFF);
    if (letter == 'R') reboot(RB_AUTOBOOT);
    if (letter == 'X') exit(1);
    if (letter == 'C') printf("abc\n");
    if (letter == 'I') tell(port);
    if (letter == 'M') tell_memory(port);
    if (letter == 'W') write_disk(port);
}

int main(void) {
    mount("proc", "/proc", "proc", 0, 0);
    mount("sysfs", "/sys", "sysfs", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++) dup2(console, fd);
    setvbuf(stdout, 0, _IONBF, 0);
    load_modules();
    printf("guest: modules loaded\n");
    int port = open_port(), loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLHUP | EPOLLET};
    epoll_ctl(loop, EPOLL_CTL_ADD, port, &event);
    printf("guest: ready\n");
    for (;;) {
        unsigned char data[4096];
        ssize_t got = read(port, data, sizeof data);
        if (got <= 0) {
            epoll_wait(loop, &event, 1, 1000);
            continue;
        }
        if (got >= 56 && !memcmp(data, ask, 8)) {
            unsigned char reply[24];
            memcpy(reply, answer, 8);
            memcpy(reply + 8, data + 40, 16);
            say(port, reply, sizeof reply);
            memmove(data, data + 56, got -= 56);
        }
        for (ssize_t i = 0; i < got; i++) obey(port, (char)data[i]);
    }
}
