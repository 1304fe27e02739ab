#include "stats.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"

static bool read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static int64_t find_number(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at != NULL ? strtoll(at + strlen(name), NULL, 10) : 0;
}

static int64_t read_cpu_ms(void)
{
    char text[512];
    long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
    if (!read_file("/proc/stat", text, sizeof text) ||
        sscanf(text, "cpu %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system, &idle, &iowait, &irq, &softirq) != 7)
        return 0;
    long ticks = sysconf(_SC_CLK_TCK);
    return (user + nice + system + irq + softirq) * 1000 / (ticks > 0 ? ticks : 100);
}

void stats_describe(struct writer *writer)
{
    char memory[2048], load[64];
    read_file("/proc/meminfo", memory, sizeof memory);
    if (!read_file("/proc/loadavg", load, sizeof load))
        strcpy(load, "0");
    load[strcspn(load, " ")] = '\0';
    write_text(writer, "{\"memory_total_kb\":");
    write_integer(writer, find_number(memory, "MemTotal:"));
    write_text(writer, ",\"memory_available_kb\":");
    write_integer(writer, find_number(memory, "MemAvailable:"));
    write_text(writer, ",\"load1\":");
    write_text(writer, load);
    write_text(writer, ",\"cpu_ms\":");
    write_integer(writer, read_cpu_ms());
    write_text(writer, ",\"uptime_ms\":");
    write_integer(writer, (int64_t)uptime_ms());
    write_text(writer, "}");
}
