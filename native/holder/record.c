#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool record_write(int dir_fd, const char *name, const char *text) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return false;
    size_t length = strlen(text);
    bool written = write(fd, text, length) == (ssize_t)length;
    if (close(fd) < 0) written = false;
    if (!written) {
        unlinkat(dir_fd, temporary, 0);
        return false;
    }
    return renameat(dir_fd, temporary, dir_fd, name) == 0;
}

static ssize_t read_small(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t count = read(fd, out, size - 1);
    close(fd);
    if (count >= 0) out[count] = '\0';
    return count;
}

unsigned long long record_start_time(pid_t pid) {
    char path[32];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_small(path, text, sizeof text) <= 0) return 0;
    /* The second field is the program's name in parentheses and may hold anything, so count from its end. */
    char *rest = strrchr(text, ')');
    if (rest == NULL) return 0;
    rest += 1;
    for (int field = 2; field < 21; field++) {
        rest = strchr(rest + 1, ' ');
        if (rest == NULL) return 0;
    }
    return strtoull(rest + 1, NULL, 10);
}

bool record_boot_id(char *out, size_t size) {
    ssize_t count = read_small("/proc/sys/kernel/random/boot_id", out, size);
    if (count <= 0) return false;
    out[strcspn(out, "\n")] = '\0';
    return true;
}
