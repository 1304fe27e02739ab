#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "account.h"
#include "descriptors.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { REPORT_FD = 3, ENVIRONMENT_MAX = 2 * VARIABLES_MAX + 3 };

static _Noreturn void fail(enum program_stage stage, int error)
{
    struct program_fault fault = {(int32_t)stage, error};
    ssize_t written = write(REPORT_FD, &fault, sizeof fault);
    _exit(written == sizeof fault ? 127 : 126);
}

static char *environment[ENVIRONMENT_MAX + 1];
static size_t environment_count;

static const char *find_variable(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < environment_count; i++)
        if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=')
            return environment[i] + length + 1;
    return NULL;
}

static void set_variable(const char *name, const char *value)
{
    size_t length = strlen(name), size = length + strlen(value) + 2;
    char *pair = malloc(size);
    if (pair == NULL)
        fail(STAGE_SETUP, ENOMEM);
    snprintf(pair, size, "%s=%s", name, value);
    size_t place = 0;
    while (place < environment_count && strncmp(environment[place], pair, length + 1) != 0)
        place++;
    if (place == ENVIRONMENT_MAX)
        fail(STAGE_SETUP, E2BIG);
    if (place == environment_count)
        environment_count++;
    environment[place] = pair;
}

static void set_variables(const struct command *command)
{
    for (size_t i = 0; i < command->env_count; i++)
        set_variable(command->env[i].name, command->env[i].value);
}

static void place_descriptors(int stdin_fd, int stdout_fd, int stderr_fd, int report_fd)
{
    /* Out of the way first: any of them may sit where another belongs. */
    int high[4] = {stdin_fd, stdout_fd, stderr_fd, report_fd};
    for (int i = 0; i < 4; i++)
        high[i] = fcntl(high[i], F_DUPFD, 16);
    for (int i = 0; i < 4; i++)
        if (high[i] < 0 || dup2(high[i], i) < 0)
            _exit(126);
    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
    if (syscall(SYS_close_range, REPORT_FD + 1, ~0u, 0) != 0)
        for (int fd = REPORT_FD + 1; fd < 1024; fd++)
            close(fd);
    for (int fd = 0; fd < 3; fd++) {
        int flags = fcntl(fd, F_GETFL);
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    }
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        sigaction(number, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void enter_directory(const char *path)
{
    if (chdir(path) == 0)
        return;
    char part[4096];
    if (errno != ENOENT || strlen(path) >= sizeof part)
        fail(STAGE_WORKDIR, errno == ENOENT ? ENAMETOOLONG : errno);
    strcpy(part, path);
    for (char *at = strchr(part + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(part, 0755);
        *at = '/';
    }
    mkdir(part, 0755);
    if (chdir(path) != 0)
        fail(STAGE_WORKDIR, errno);
}

static void take_limits(const struct command *command)
{
    for (size_t i = 0; i < command->ulimit_count; i++) {
        struct rlimit limit = {command->ulimits[i].soft, command->ulimits[i].hard};
        if (setrlimit(command->ulimits[i].resource, &limit) != 0)
            fail(STAGE_LIMITS, errno);
    }
}

static void take_rights(const struct account *account)
{
    /* Without privilege there is nothing to take but what one has, and setting that again is allowed. */
    for (int fd = 0; fd < 3 && geteuid() == 0; fd++)
        if (fchown(fd, account->uid, (gid_t)-1) != 0 && errno != EROFS && errno != EPERM) /* or /dev/stdout opens for root alone */
            fail(STAGE_RIGHTS, errno);
    if (geteuid() == 0 && setgroups(account->group_count, account->groups) != 0)
        fail(STAGE_RIGHTS, errno);
    if (setresgid(account->gid, account->gid, account->gid) != 0 || setresuid(account->uid, account->uid, account->uid) != 0)
        fail(STAGE_RIGHTS, errno);
}

static _Noreturn void run_file(const char *file, char *const argv[])
{
    if (strchr(file, '/') != NULL) {
        execve(file, argv, environment);
        fail(STAGE_PROGRAM, errno);
    }
    int error = ENOENT;
    char path[4096];
    for (const char *at = find_variable("PATH");; at++) {
        size_t length = strcspn(at, ":");
        int size = snprintf(path, sizeof path, "%.*s%s%s", (int)length, at, length > 0 ? "/" : "./", file);
        if (size > 0 && (size_t)size < sizeof path) {
            execve(path, argv, environment);
            if (errno != ENOENT && errno != ENOTDIR)
                error = errno;
            if (error != ENOENT && error != EACCES)
                break;
        }
        at += length;
        if (*at == '\0')
            break;
    }
    fail(STAGE_PROGRAM, error);
}

static _Noreturn void become(const struct command *command, const struct command *base, const struct terminal *terminal)
{
    static struct account account;
    setsid();
    if (terminal != NULL && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0)
        fail(STAGE_SETUP, errno);
    descriptors_restore();
    reset_signals();
    umask(022);
    const char *user = command->user != NULL ? command->user : base != NULL ? base->user : "0:0";
    if (!account_resolve(user, &account))
        fail(STAGE_USER, ENOENT);
    set_variable("PATH", DEFAULT_PATH);
    if (base != NULL)
        set_variables(base);
    if (terminal != NULL)
        set_variable("TERM", terminal->term);
    set_variables(command);
    if (find_variable("HOME") == NULL)
        set_variable("HOME", account.home);
    enter_directory(command->workdir != NULL ? command->workdir : base != NULL ? base->workdir : "/");
    take_limits(base != NULL ? base : command);
    take_rights(&account);
    run_file(command->argv[0], (char *const *)(uintptr_t)command->argv);
}

enum { ENDS = 4 };

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* Each pair: the program's end, ours. */
static bool make_pipes(int ends[ENDS][2], bool with_stdin)
{
    bool made = true;
    for (int i = 0; i < ENDS && made; i++) {
        int pipe_fds[2] = {-1, -1};
        if (i == 0 && !with_stdin) {
            ends[0][0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
            made = ends[0][0] >= 0;
            continue;
        }
        made = pipe2(pipe_fds, O_CLOEXEC) == 0;
        ends[i][0] = pipe_fds[i == 0 ? 0 : 1];
        ends[i][1] = pipe_fds[i == 0 ? 1 : 0];
        made = made && fcntl(ends[i][1], F_SETFL, O_NONBLOCK) == 0;
    }
    return made;
}

/* The program has the terminal three times; we have it once for each direction. */
static bool make_terminal(int ends[ENDS][2], const struct terminal *terminal)
{
    int report[2];
    ends[1][1] = terminal_open(terminal, &ends[0][0]);
    if (ends[1][1] < 0)
        return false;
    ends[0][1] = fcntl(ends[1][1], F_DUPFD_CLOEXEC, 0);
    ends[1][0] = fcntl(ends[0][0], F_DUPFD_CLOEXEC, 0);
    ends[2][0] = fcntl(ends[0][0], F_DUPFD_CLOEXEC, 0);
    if (ends[0][1] < 0 || ends[1][0] < 0 || ends[2][0] < 0 || pipe2(report, O_CLOEXEC) != 0)
        return false;
    ends[3][0] = report[1];
    ends[3][1] = report[0];
    return fcntl(report[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool start(const struct command *command, const struct command *base, bool with_stdin, const struct terminal *terminal,
                  struct program *program)
{
    int ends[ENDS][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    bool made = terminal != NULL ? make_terminal(ends, terminal) : make_pipes(ends, with_stdin);
    pid_t pid = made ? fork() : -1;
    if (pid == 0) {
        place_descriptors(ends[0][0], ends[1][0], ends[2][0], ends[3][0]);
        become(command, base, terminal);
    }
    int error = errno;
    for (int i = 0; i < ENDS; i++) {
        close_one(ends[i][0]);
        if (pid < 0)
            close_one(ends[i][1]);
    }
    errno = error;
    if (pid < 0)
        return false;
    *program = (struct program){pid, ends[0][1], ends[1][1], ends[2][1], ends[3][1]};
    return true;
}

bool program_start(const struct command *command, const struct command *base, bool with_stdin, struct program *program)
{
    return start(command, base, with_stdin, NULL, program);
}

bool program_start_on_terminal(const struct command *command, const struct command *base, const struct terminal *terminal,
                               struct program *program)
{
    return start(command, base, true, terminal, program);
}

int program_outcome(int report_fd, struct program_fault *fault)
{
    ssize_t length = read(report_fd, fault, sizeof *fault);
    if (length == 0)
        return 1;
    if (length == (ssize_t)sizeof *fault)
        return -1;
    return errno == EAGAIN || errno == EINTR ? 0 : 1;
}

void program_label(const struct command *command, const struct command *base, struct program_label *label)
{
    const char *user = command->user != NULL || base == NULL ? command->user : base->user;
    const char *workdir = command->workdir != NULL || base == NULL ? command->workdir : base->workdir;
    snprintf(label->program, sizeof label->program, "%s", command->argv[0]);
    snprintf(label->user, sizeof label->user, "%s", user != NULL ? user : "0:0");
    snprintf(label->workdir, sizeof label->workdir, "%s", workdir != NULL ? workdir : "/");
}

const char *program_explain(const struct program_fault *fault, const struct program_label *label, char *text, size_t size)
{
    const char *error = strerror(fault->error);
    switch ((enum program_stage)fault->stage) {
    case STAGE_USER:
        snprintf(text, size, "no such user or group: %s", label->user);
        return "no_such_user";
    case STAGE_RIGHTS:
        snprintf(text, size, "cannot become user %s: %s", label->user, error);
        return "not_permitted";
    case STAGE_LIMITS:
        snprintf(text, size, "cannot set its ulimits: %s", error);
        return "failed";
    case STAGE_WORKDIR:
        snprintf(text, size, "cannot enter %s: %s", label->workdir, error);
        return "failed";
    case STAGE_PROGRAM:
        if (fault->error == ENOENT || fault->error == ENOTDIR) {
            snprintf(text, size, "no such program: %s", label->program);
            return "no_such_program";
        }
        if (fault->error == EACCES || fault->error == EPERM) {
            snprintf(text, size, "permission denied: %s", label->program);
            return "not_permitted";
        }
        snprintf(text, size, "cannot run %s: %s", label->program, error);
        return "failed";
    case STAGE_SETUP:
        break;
    }
    snprintf(text, size, "cannot start %s: %s", label->program, error);
    return "failed";
}
