#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "frame.h"
#include "place.h"

enum { CTRL_D = 4 };

bool terminal_read(const struct json *json, uint32_t node, struct terminal *terminal, char fault[FAULT_TEXT])
{
    struct place message = {json, 0, "", fault}, place = {json, node, "tty.", fault};
    uint32_t rows, cols;
    if (json_type(json, node) != JSON_OBJECT)
        return place_blame(&message, "tty", "not an object");
    if (!place_small(&place, "rows", 1, TERMINAL_SIDE_MAX, 24, &rows) || !place_small(&place, "cols", 1, TERMINAL_SIDE_MAX, 80, &cols) ||
        !place_text(&place, "term", "xterm", &terminal->term))
        return false;
    if (!is_made_of(terminal->term, 64, "-+._"))
        return place_blame(&place, "term", "no name of a terminal");
    terminal->rows = (uint16_t)rows;
    terminal->cols = (uint16_t)cols;
    return true;
}

static void set_size(int fd, uint16_t rows, uint16_t cols)
{
    ioctl(fd, TIOCSWINSZ, &(struct winsize){.ws_row = rows, .ws_col = cols});
}

int terminal_open(const struct terminal *terminal, int *program)
{
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    /* The other end is asked of this one, so it is the right one whatever lies in /dev/pts. */
    *program = unlockpt(fd) == 0 ? ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    if (*program < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    set_size(fd, terminal->rows, terminal->cols);
    return fd;
}

bool terminal_resize(int fd, const uint8_t size[4])
{
    uint16_t rows = load_u16(size), cols = load_u16(size + 2);
    if (rows < 1 || rows > TERMINAL_SIDE_MAX || cols < 1 || cols > TERMINAL_SIDE_MAX)
        return false;
    if (fd >= 0)
        set_size(fd, rows, cols);
    return true;
}

uint8_t terminal_end_character(int fd)
{
    struct termios settings;
    return tcgetattr(fd, &settings) == 0 && settings.c_cc[VEOF] != 0 ? (uint8_t)settings.c_cc[VEOF] : CTRL_D;
}

void terminal_signal(int fd, pid_t leader, int number)
{
    int foreground = 0;
    if (fd < 0 || ioctl(fd, TIOCGPGRP, &foreground) != 0 || foreground <= 1)
        foreground = leader;
    if (foreground > 1)
        kill(-foreground, number);
}
