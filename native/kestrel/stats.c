#include "stats.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "loop.h"

enum { FILE_SIZE = 65536, SECTOR_SIZE = 512 };

static char content[FILE_SIZE];

/* The beginning of a file of /proc, as much of it as fits; empty when there is none. */
static const char *read_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    for (ssize_t got = 1; fd >= 0 && got > 0 && length < sizeof content - 1; length += got > 0 ? (size_t)got : 0)
        got = read(fd, content + length, sizeof content - 1 - length);
    if (fd >= 0)
        close(fd);
    content[length] = '\0';
    return content;
}

static int64_t find_number(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at != NULL ? strtoll(at + strlen(name), NULL, 10) : 0;
}

static int64_t read_cpu_ms(void)
{
    long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
    if (sscanf(read_file("/proc/stat"), "cpu %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system, &idle, &iowait, &irq, &softirq) != 7)
        return 0;
    long ticks = sysconf(_SC_CLK_TCK);
    return (user + nice + system + irq + softirq) * 1000 / (ticks > 0 ? ticks : 100);
}

/* Whole disks: a part of one is counted with it, and what is made of others is counted with those. */
static bool is_disk(const char *name)
{
    size_t length = strlen(name);
    bool is_lettered = length == 3 && (name[0] == 'v' || name[0] == 's') && name[1] == 'd';
    return is_lettered || (strncmp(name, "nvme", 4) == 0 && strchr(name, 'p') == NULL);
}

static void sum_disks(uint64_t *read_bytes, uint64_t *written_bytes)
{
    *read_bytes = *written_bytes = 0;
    for (const char *line = read_file("/proc/diskstats"); *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        char name[32];
        uint64_t in, out;
        if (sscanf(line, "%*u %*u %31s %*u %*u %" SCNu64 " %*u %*u %*u %" SCNu64, name, &in, &out) == 3 && is_disk(name)) {
            *read_bytes += in * SECTOR_SIZE;
            *written_bytes += out * SECTOR_SIZE;
        }
    }
}

static void sum_cards(uint64_t *received, uint64_t *sent)
{
    *received = *sent = 0;
    for (const char *line = read_file("/proc/net/dev"); *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        char name[32];
        uint64_t in, out;
        if (sscanf(line, " %31[^: \n]: %" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, name, &in, &out) == 3 && strncmp(name, "eth", 3) == 0) {
            *received += in;
            *sent += out;
        }
    }
}

static void write_member(struct writer *writer, const char *name, int64_t value)
{
    write_text(writer, ",\"");
    write_text(writer, name);
    write_text(writer, "\":");
    write_integer(writer, value);
}

static void write_memory(struct writer *writer)
{
    const char *memory = read_file("/proc/meminfo");
    write_text(writer, "{\"memory_total_kb\":");
    write_integer(writer, find_number(memory, "MemTotal:"));
    write_member(writer, "memory_available_kb", find_number(memory, "MemAvailable:"));
}

/* "0.00 0.01 0.05 1/123 456": the load of a minute, and after the stroke how many there are. */
static void write_load(struct writer *writer)
{
    const char *load = read_file("/proc/loadavg");
    const char *stroke = strchr(load, '/');
    long processes = stroke != NULL ? strtol(stroke + 1, NULL, 10) : 0;
    content[strcspn(load, " ")] = '\0';
    write_text(writer, ",\"load1\":");
    write_text(writer, *load != '\0' ? load : "0");
    write_member(writer, "processes", processes);
}

void stats_describe(struct writer *writer)
{
    struct statvfs root = {0};
    uint64_t in, out;
    write_memory(writer);
    write_load(writer);
    write_member(writer, "cpu_ms", read_cpu_ms());
    write_member(writer, "uptime_ms", (int64_t)uptime_ms());
    if (statvfs("/", &root) == 0) {
        write_member(writer, "disk_total_kb", (int64_t)((uint64_t)root.f_blocks * root.f_frsize / 1024));
        write_member(writer, "disk_available_kb", (int64_t)((uint64_t)root.f_bavail * root.f_frsize / 1024));
    }
    sum_disks(&in, &out);
    write_member(writer, "disk_read_bytes", (int64_t)in);
    write_member(writer, "disk_write_bytes", (int64_t)out);
    sum_cards(&in, &out);
    write_member(writer, "net_rx_bytes", (int64_t)in);
    write_member(writer, "net_tx_bytes", (int64_t)out);
    write_text(writer, "}");
}
