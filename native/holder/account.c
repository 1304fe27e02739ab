#include "account.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "writer.h"

static void put_file(int dir_fd, const char *name, const struct writer *writer)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".%s.new", name);
    unlinkat(dir_fd, temporary, 0);
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    bool whole = write(fd, writer->bytes, writer->length) == (ssize_t)writer->length;
    close(fd);
    if (!whole || renameat(dir_fd, temporary, dir_fd, name) != 0)
        unlinkat(dir_fd, temporary, 0);
}

static size_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0 ? (size_t)length : 0;
}

/* Field 22 of /proc/PID/stat, in clock ticks since boot. */
static long long read_start_time(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_file(path, text, sizeof text);
    const char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at, ' ');
        if (at != NULL)
            at++;
    }
    return at != NULL ? strtoll(at, NULL, 10) : 0;
}

static void put_member(struct writer *writer, const char *name, long long value)
{
    write_text(writer, writer->length == 0 ? "{" : ", ");
    write_quoted(writer, name);
    write_text(writer, ": ");
    write_integer(writer, value);
}

void account_clear(int dir_fd)
{
    unlinkat(dir_fd, "exit.json", 0);
    unlinkat(dir_fd, "process.json", 0);
}

void account_process(int dir_fd, pid_t pid)
{
    char text[512], boot_id[64];
    struct writer writer = {.bytes = text, .capacity = sizeof text};
    read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    boot_id[strcspn(boot_id, "\n")] = '\0';
    put_member(&writer, "pid", pid);
    put_member(&writer, "start_time", read_start_time(pid));
    put_member(&writer, "holder_pid", getpid());
    put_member(&writer, "holder_start_time", read_start_time(getpid()));
    write_text(&writer, ", \"boot_id\": ");
    write_quoted(&writer, boot_id);
    write_text(&writer, "}\n");
    put_file(dir_fd, "process.json", &writer);
}

void account_exit(int dir_fd, int status, const char *error)
{
    char text[1024];
    struct writer writer = {.bytes = text, .capacity = sizeof text};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (error != NULL) {
        write_text(&writer, "{\"error\": ");
        write_quoted(&writer, error);
    } else if (WIFSIGNALED(status)) {
        put_member(&writer, "signal", WTERMSIG(status));
    } else {
        put_member(&writer, "code", WEXITSTATUS(status));
    }
    put_member(&writer, "at_unix_ns", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    write_text(&writer, "}\n");
    put_file(dir_fd, "exit.json", &writer);
}
