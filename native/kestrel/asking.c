#include "asking.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "health.h"

enum { REQUEST_SIZE = 1400, READ_SIZE = 4096, READS_MAX = 4, OUTPUT_MAX = 1048576 };

static struct asking *running;

static void close_all(struct asking *asking)
{
    loop_close(&asking->socket);
    loop_close(&asking->report);
    loop_close(&asking->output[0]);
    loop_close(&asking->output[1]);
    timer_stop(&asking->timeout);
}

static void kill_program(struct asking *asking)
{
    if (asking->pid > 0)
        kill(-asking->pid, SIGKILL);
}

static void finish(struct asking *asking, bool well, const char *message)
{
    if (!asking->busy)
        return;
    asking->busy = false;
    kill_program(asking);
    close_all(asking);
    asking->answered(asking, well, message);
}

void asking_stop(struct asking *asking)
{
    if (!asking->busy)
        return;
    asking->busy = false;
    kill_program(asking);
    close_all(asking);
}

static void fail_with(struct asking *asking, int error)
{
    asking->refused = error == ECONNREFUSED;
    finish(asking, false, strerror(error));
}

/* HTTP and TCP */

static bool send_request(struct asking *asking)
{
    const struct question *question = asking->question;
    char request[REQUEST_SIZE], host[INET_ADDRSTRLEN];
    bool has_body = question->method[0] == 'P';
    inet_ntop(AF_INET, &question->host, host, sizeof host);
    int length = snprintf(request, sizeof request,
                          "%s %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: kestrel\r\nAccept: */*\r\n%sConnection: close\r\n\r\n", question->method,
                          question->path, host, question->port, has_body ? "Content-Length: 0\r\n" : "");
    return send(asking->socket.fd, request, (size_t)length, MSG_NOSIGNAL) == length;
}

static void read_answer(struct asking *asking)
{
    ssize_t length = recv(asking->socket.fd, asking->answer + asking->answer_length, sizeof asking->answer - asking->answer_length, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        finish(asking, false, length == 0 ? "the connection was closed without an answer" : strerror(errno));
        return;
    }
    asking->answer_length += (size_t)length;
    int status = health_read_status(asking->answer, asking->answer_length);
    char message[64];
    if (status == 0 && asking->answer_length < sizeof asking->answer)
        return;
    if (status <= 0) {
        finish(asking, false, "the answer is not HTTP/1");
        return;
    }
    snprintf(message, sizeof message, "HTTP %d", status);
    finish(asking, status >= 200 && status < 400, message);
}

static void on_socket(struct watch *watch, uint32_t events)
{
    struct asking *asking = watch->owner;
    if (!asking->sent) {
        int error = 0;
        socklen_t size = sizeof error;
        if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0 || getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
            return;
        asking->sent = true;
        if (error != 0) {
            fail_with(asking, error);
            return;
        }
        if (asking->question->kind == QUESTION_TCP) {
            finish(asking, true, "connected");
            return;
        }
        if (!send_request(asking)) {
            fail_with(asking, errno);
            return;
        }
    }
    read_answer(asking);
}

static void connect_to(struct asking *asking)
{
    const struct question *question = asking->question;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(question->port), .sin_addr = question->host};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail_with(asking, errno);
        return;
    }
    asking->socket = (struct watch){.fd = fd, .ready = on_socket, .owner = asking};
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        fail_with(asking, errno);
    else
        loop_watch(&asking->socket, EPOLLIN | EPOLLOUT | EPOLLET);
}

/* Programs */

/* The first line is kept; the rest is read so that the program does not wait for us, up to a bound. */
static void read_output(struct asking *asking, struct watch *watch, int reads)
{
    char bytes[READ_SIZE];
    for (int i = 0; i < reads && watch->fd >= 0; i++) {
        ssize_t length = read(watch->fd, bytes, sizeof bytes);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno == EAGAIN)
            return;
        if (length <= 0 || asking->output_length >= OUTPUT_MAX) {
            loop_close(watch);
            return;
        }
        asking->output_length += (size_t)length;
        for (ssize_t at = 0; at < length && asking->answer_length + 1 < sizeof asking->answer; at++) {
            if (bytes[at] == '\n' && asking->answer_length == 0)
                continue;
            asking->answer[asking->answer_length++] = bytes[at];
        }
    }
}

static void on_output(struct watch *watch, uint32_t events)
{
    (void)events;
    read_output(watch->owner, watch, READS_MAX);
}

static void on_report(struct watch *watch, uint32_t events)
{
    struct asking *asking = watch->owner;
    struct program_fault fault;
    (void)events;
    int outcome = program_outcome(watch->fd, &fault);
    if (outcome == 0)
        return;
    loop_close(watch);
    if (outcome < 0) {
        char text[ASKING_ANSWER_SIZE];
        program_explain(&fault, &asking->label, text, sizeof text);
        finish(asking, false, text);
    }
}

static void watch_descriptor(struct asking *asking, struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t))
{
    *watch = (struct watch){.fd = fd, .ready = ready, .owner = asking};
    loop_watch(watch, EPOLLIN);
}

static void run_program(struct asking *asking, const struct command *workload)
{
    static struct command command; /* of no use after the fork */
    struct program program;
    memcpy(command.argv, asking->question->argv, sizeof asking->question->argv);
    program_label(&command, workload, &asking->label);
    if (!program_start(&command, workload, false, &program)) {
        fail_with(asking, errno);
        return;
    }
    asking->pid = program.pid;
    asking->next = running;
    running = asking;
    watch_descriptor(asking, &asking->report, program.report_fd, on_report);
    watch_descriptor(asking, &asking->output[0], program.stdout_fd, on_output);
    watch_descriptor(asking, &asking->output[1], program.stderr_fd, on_output);
}

static void conclude(struct asking *asking, int status)
{
    char message[ASKING_ANSWER_SIZE + 64];
    bool signalled = WIFSIGNALED(status);
    for (int i = 0; i < 2; i++)
        read_output(asking, &asking->output[i], READS_MAX);
    asking->answer[asking->answer_length] = '\0';
    asking->answer[strcspn(asking->answer, "\n")] = '\0';
    const char *said = asking->answer;
    snprintf(message, sizeof message, "%s %d%s%s", signalled ? "ended by signal" : "exited with code",
             signalled ? WTERMSIG(status) : WEXITSTATUS(status), *said != '\0' ? ": " : "", said);
    finish(asking, !signalled && WEXITSTATUS(status) == 0, message);
}

bool asking_reaped(pid_t pid, int status)
{
    for (struct asking **at = &running; *at != NULL; at = &(*at)->next) {
        struct asking *asking = *at;
        if (asking->pid != pid)
            continue;
        *at = asking->next;
        if (asking->busy && asking->report.fd >= 0)
            on_report(&asking->report, 0);
        kill_program(asking); /* what it left behind in its group */
        asking->pid = 0;
        if (asking->busy)
            conclude(asking, status);
        return true;
    }
    return false;
}

void asking_signal_all(int number)
{
    for (struct asking *asking = running; asking != NULL; asking = asking->next)
        kill(-asking->pid, number);
}

static void on_timeout(struct timer *timer)
{
    struct asking *asking = timer->owner;
    char message[64];
    snprintf(message, sizeof message, "no %s within %u ms", asking->pid > 0 ? "end" : "answer", asking->timeout_ms);
    finish(asking, false, message);
}

void asking_begin(struct asking *asking, const struct question *question, const struct command *workload, uint32_t timeout_ms)
{
    asking_stop(asking);
    asking->question = question;
    asking->busy = true;
    asking->sent = asking->refused = false;
    asking->timeout_ms = timeout_ms;
    asking->answer_length = asking->output_length = 0;
    asking->socket.fd = asking->report.fd = asking->output[0].fd = asking->output[1].fd = -1;
    asking->timeout = (struct timer){.fire = on_timeout, .owner = asking};
    if (asking->pid > 0) {
        finish(asking, false, "the program that was asked before does not end");
        return;
    }
    timer_set(&asking->timeout, timeout_ms);
    if (question->kind == QUESTION_EXEC)
        run_program(asking, workload);
    else
        connect_to(asking);
}
