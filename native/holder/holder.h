/* The holder: the parent and jailer of one VM process. */
#ifndef VOLANT_HOLDER_H
#define VOLANT_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { MAX_KEPT = 64, MAX_GROUPS = 8, MAX_CLIENTS = 8 };

struct options {
    int dir_fd;            /* the unit's state directory */
    int lock_fd;           /* held open for as long as this process lives: that is what "alive" means */
    int console_fd;        /* our end of the serial port */
    int console_listen_fd; /* a listening UNIX stream socket for readers of the console */
    uid_t uid;
    gid_t gid;
    gid_t groups[MAX_GROUPS];
    size_t group_count;
    int kept[MAX_KEPT]; /* descriptors that the VM process inherits under the same numbers */
    size_t kept_count;
    long log_max;     /* bytes of one console log file */
    long file_limit;  /* RLIMIT_NOFILE of the VM process, 0 leaves it */
    char **command;
};

/* Fills `options` from the command line; on a mistake prints what is wrong and returns false. */
bool options_read(struct options *options, int argc, char **argv);

/* In the child: everything that is taken away before the VM process is executed. Returns only by failing; *step then
 * says at what, and errno why. */
void jail_enter(const struct options *options, int output_fd, pid_t parent, const char **step);

/* In the parent: gives up every capability. Returns false with errno set. */
bool jail_drop_capabilities(void);

/* A log file with one predecessor, both bounded. A full disk loses output and nothing else. */
struct log_file {
    int dir_fd;
    const char *name;
    const char *previous;
    long max;
    int fd;
    long size;
};
void log_open(struct log_file *log, int dir_fd, const char *name, const char *previous, long max);
void log_write(struct log_file *log, const char *bytes, size_t count);

/* The serial console: one source, a log, and a few readers, of whom the first may write. */
struct client {
    int fd;
    size_t waiting;
    char buffer[65536];
};
struct console {
    int source;
    int listener;
    struct log_file log;
    struct client clients[MAX_CLIENTS];
    size_t client_count;
    size_t typed;
    char typing[1024];
};
void console_open(struct console *console, const struct options *options);
/* Moves what can be moved now. `source_ready`, `listener_ready` and `client_ready` are poll's answers. */
void console_take_source(struct console *console);
void console_take_listener(struct console *console);
void console_take_client(struct console *console, size_t index, short events);
void console_flush_typing(struct console *console);

/* Writes `text` to `name` in the directory so that a reader sees all of it or the file before. */
bool record_write(int dir_fd, const char *name, const char *text);
/* Field 22 of /proc/PID/stat, clock ticks after boot; 0 when the process is gone. */
unsigned long long record_start_time(pid_t pid);
bool record_boot_id(char *out, size_t size);

#endif
