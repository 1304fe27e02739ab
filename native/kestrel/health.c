#include "health.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "loop.h"

enum state { STATE_UNKNOWN, STATE_HEALTHY, STATE_UNHEALTHY };
enum { REQUEST_SIZE = 1400, ANSWER_SIZE = 64 };

static const char *const STATE_NAMES[] = {"unknown", "healthy", "unhealthy"};

static struct {
    const char *workload;
    const struct probe *probe;
    bool active; /* the workload runs */
    enum state state;
    bool was_healthy; /* in this run of the workload */
    uint32_t failures;
    uint64_t since_ms;
    uint64_t began_ms;
    char message[128];
    struct watch socket;
    bool sent;
    char answer[ANSWER_SIZE];
    size_t answer_length;
    struct timer next;
    struct timer timeout;
} health = {.socket.fd = -1};

static void enter(enum state state, const char *message)
{
    bool changed = state != health.state;
    if (!changed && strcmp(message, health.message) == 0)
        return;
    if (changed)
        health.since_ms = uptime_ms();
    health.state = state;
    snprintf(health.message, sizeof health.message, "%s", message);
    control_health_changed();
}

/* While it starts: often at first, then at a tenth of the time that it has taken already, so that a slow start is not slowed
 * by being asked, and is found ready at most a tenth late. */
static uint64_t start_interval_ms(void)
{
    uint64_t waited_ms = (uptime_ms() - health.began_ms) / 10;
    uint64_t least_ms = health.probe->start_interval_ms;
    uint64_t most_ms = health.probe->interval_ms > least_ms ? health.probe->interval_ms : least_ms;
    return waited_ms < least_ms ? least_ms : waited_ms > most_ms ? most_ms : waited_ms;
}

static void plan_next(void)
{
    timer_set(&health.next, health.was_healthy ? health.probe->interval_ms : start_interval_ms());
}

static void finish(bool healthy, const char *message)
{
    loop_close(&health.socket);
    timer_stop(&health.timeout);
    if (healthy) {
        health.failures = 0;
        health.was_healthy = true;
        enter(STATE_HEALTHY, message);
    } else {
        health.failures++;
        if (health.was_healthy && health.failures >= health.probe->unhealthy_threshold)
            enter(STATE_UNHEALTHY, message);
        else if (health.state != STATE_HEALTHY)
            enter(health.state, message);
    }
    plan_next();
}

static bool send_request(void)
{
    char request[REQUEST_SIZE], host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &health.probe->host, host, sizeof host);
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: kestrel\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                          health.probe->path, host, health.probe->port);
    return send(health.socket.fd, request, (size_t)length, MSG_NOSIGNAL) == length;
}

static void read_answer(void)
{
    ssize_t length = recv(health.socket.fd, health.answer + health.answer_length, sizeof health.answer - health.answer_length, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        finish(false, length == 0 ? "the connection was closed without an answer" : strerror(errno));
        return;
    }
    health.answer_length += (size_t)length;
    int status = health_read_status(health.answer, health.answer_length);
    char message[64];
    if (status == 0)
        return;
    if (status < 0) {
        finish(false, "the answer is not HTTP/1");
        return;
    }
    snprintf(message, sizeof message, "HTTP %d", status);
    finish(status >= 200 && status < 400, message);
}

static void on_socket(struct watch *watch, uint32_t events)
{
    (void)events;
    if (!health.sent) {
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == EINPROGRESS)
            return;
        health.sent = true;
        if (error != 0 || !send_request()) {
            finish(false, strerror(error != 0 ? error : errno));
            return;
        }
    }
    read_answer();
}

static void on_timeout(struct timer *timer)
{
    char message[64];
    (void)timer;
    snprintf(message, sizeof message, "no answer within %u ms", health.probe->timeout_ms);
    finish(false, message);
}

static void probe_now(struct timer *timer)
{
    (void)timer;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(health.probe->port), .sin_addr = health.probe->host};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        finish(false, strerror(errno));
        return;
    }
    health.sent = false;
    health.answer_length = 0;
    health.socket = (struct watch){.fd = fd, .ready = on_socket};
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        finish(false, strerror(errno));
        return;
    }
    timer_set(&health.timeout, health.probe->timeout_ms);
    loop_watch(&health.socket, EPOLLIN | EPOLLOUT | EPOLLET);
}

static void enter_unprobed(void)
{
    health.was_healthy = true; /* a probe that is asked for later has to fail before it says otherwise */
    enter(STATE_HEALTHY, "it runs, and no probe was asked for");
}

void health_begin(const char *workload, const struct probe *probe)
{
    health.workload = workload;
    health.probe = probe;
    health.was_healthy = false;
    health.failures = 0;
    health.active = true;
    health.began_ms = uptime_ms();
    health.next.fire = probe_now;
    health.timeout.fire = on_timeout;
    if (!probe->wanted)
        enter_unprobed();
    else
        probe_now(&health.next);
}

static void stop_probing(void)
{
    loop_close(&health.socket);
    timer_stop(&health.next);
    timer_stop(&health.timeout);
}

void health_renew(const char *workload, const struct probe *probe)
{
    if (health.workload == NULL)
        return;
    health.workload = workload;
    health.probe = probe;
    if (!health.active)
        return;
    stop_probing();
    if (probe->wanted)
        timer_set(&health.next, 0);
    else
        enter_unprobed();
}

void health_hurry(void)
{
    if (health.next.armed)
        timer_set(&health.next, 0);
}

void health_end(void)
{
    if (health.workload == NULL)
        return;
    health.active = false;
    stop_probing();
    enter(STATE_UNKNOWN, "the workload does not run");
}

bool health_describe(struct writer *writer)
{
    if (health.workload == NULL)
        return false;
    write_text(writer, "\"workload\":");
    write_quoted(writer, health.workload);
    write_text(writer, ",\"state\":");
    write_quoted(writer, STATE_NAMES[health.state]);
    write_text(writer, ",\"message\":");
    write_quoted(writer, health.message);
    write_text(writer, ",\"since_ms\":");
    write_integer(writer, (int64_t)health.since_ms);
    return true;
}
