#include "bootid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <unistd.h>

#include "console.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define FILE_PATH "/run/.kestrel-boot-id"

enum { LINE_SIZE = 38 }; /* 36 characters, newline, NUL */

static bool laid_over;

static bool make_line(char line[LINE_SIZE])
{
    uint8_t id[16];
    if (getrandom(id, sizeof id, GRND_NONBLOCK) != (ssize_t)sizeof id)
        return false;
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    size_t at = 0;
    for (size_t i = 0; i < sizeof id; i++)
        at += (size_t)snprintf(line + at, LINE_SIZE - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    strcpy(line + at, "\n");
    return true;
}

static bool write_file(const char *line)
{
    unlink(FILE_PATH);
    int fd = open(FILE_PATH, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    size_t length = strlen(line);
    bool done = fd >= 0 && write(fd, line, length) == (ssize_t)length;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return done;
}

static bool lay_over(void)
{
    if (laid_over && umount2(BOOT_ID, MNT_DETACH) != 0 && errno != EINVAL)
        return false;
    laid_over = mount(FILE_PATH, BOOT_ID, NULL, MS_BIND, NULL) == 0;
    return laid_over && mount(NULL, BOOT_ID, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
}

void bootid_renew(void)
{
    char line[LINE_SIZE];
    if (!make_line(line) || !write_file(line) || !lay_over())
        console_say("cannot renew the boot id: %s", strerror(errno));
    unlink(FILE_PATH); /* the mount keeps it; nobody is to change it by its name */
}
