#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "entry.h"
#include "filewire.h"
#include "relay.h"

enum { CHILDREN_MAX = 16, CHILD_FD = 3 };

static pid_t children[CHILDREN_MAX]; /* a child counts until it is reaped, which may be long after its stream went */

static void gone(struct relay *relay)
{
    free(relay);
}

static void prepare_child(int fd)
{
    sigset_t none;
    if (dup2(fd, CHILD_FD) < 0)
        _exit(1);
    syscall(SYS_close_range, CHILD_FD + 1, ~0u, 0);
    fcntl(CHILD_FD, F_SETFL, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "kestrel-files");
    umask(0);
    filewire_open(CHILD_FD);
}

static void open_files(struct stream *stream, const struct json *message, void (*work)(const char *wanted))
{
    const char *path = json_text(message, json_member(message, 0, "path"));
    if (path == NULL || path[0] != '/' || strlen(path) > ENTRY_PATH_MAX) {
        stream_refuse(stream, "malformed", "path: not an absolute path of at most 4095 bytes");
        return;
    }
    size_t place = 0;
    while (place < CHILDREN_MAX && children[place] != 0)
        place++;
    struct relay *relay = place < CHILDREN_MAX ? calloc(1, sizeof *relay) : NULL;
    if (relay == NULL) {
        stream_refuse(stream, "busy", "too many files streams are at work");
        return;
    }
    relay->gone = gone;
    relay_open(relay, stream);
    int ends[2] = {-1, -1};
    pid_t pid = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0 ? fork() : -1;
    if (pid == 0) {
        prepare_child(ends[1]);
        work(path);
    }
    if (pid < 0) {
        int error = errno;
        for (int i = 0; i < 2; i++)
            if (ends[i] >= 0)
                close(ends[i]);
        relay_refuse(relay, "busy", strerror(error));
        return;
    }
    children[place] = pid;
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    relay_begin(relay, ends[0], false);
}

void files_open_read(struct stream *stream, const struct json *message)
{
    open_files(stream, message, files_read);
}

void files_open_write(struct stream *stream, const struct json *message)
{
    open_files(stream, message, files_write);
}

void files_signal_all(int number)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++)
        if (children[i] > 0)
            kill(children[i], number);
}

bool files_reaped(pid_t pid)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] == pid) {
            children[i] = 0;
            return true;
        }
    }
    return false;
}
