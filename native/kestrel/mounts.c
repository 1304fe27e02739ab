#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev.h"
#include "console.h"

enum { DISK_WAIT_MS = 2000, MAGIC_MAX = 8, PATH_TEXT = 256 };

struct magic {
    const char *filesystem;
    off_t at;
    size_t size;
    const char *bytes;
};

static const struct magic MAGICS[] = {
    {"ext4", 1080, 2, "\x53\xef"},       {"erofs", 1024, 4, "\xe2\xe1\xf5\xe0"}, {"squashfs", 0, 4, "hsqs"},
    {"xfs", 0, 4, "XFSB"},               {"btrfs", 65600, 8, "_BHRfS_M"},         {"iso9660", 32769, 5, "CD001"},
    {"vfat", 82, 5, "FAT32"},            {"vfat", 54, 3, "FAT"},
};

static int tops[MOUNTS_MAX]; /* of those that are written to */
static size_t top_count;

/* What lies on the disk, or NULL; what the kernel holds of it is dropped first: in a clone it may be the template's. */
static const char *look_at(const char *device)
{
    const char *found = NULL;
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (ioctl(fd, BLKFLSBUF, 0) != 0)
        console_say("%s: cannot drop what is cached of it: %s", device, strerror(errno));
    for (size_t i = 0; i < sizeof MAGICS / sizeof MAGICS[0] && found == NULL; i++) {
        char bytes[MAGIC_MAX];
        const struct magic *magic = &MAGICS[i];
        if (pread(fd, bytes, magic->size, magic->at) == (ssize_t)magic->size && memcmp(bytes, magic->bytes, magic->size) == 0)
            found = magic->filesystem;
    }
    close(fd);
    return found;
}

static bool make_directories(const char *path)
{
    char made[PATH_TEXT];
    struct stat status;
    snprintf(made, sizeof made, "%s", path);
    for (char *end = made + 1; *end != '\0'; end++) {
        if (*end != '/')
            continue;
        *end = '\0';
        mkdir(made, 0755);
        *end = '/';
    }
    mkdir(made, 0755);
    return stat(made, &status) == 0 && (S_ISDIR(status.st_mode) || (errno = ENOTDIR, false));
}

static bool make_one(const struct mount *wanted, char *text, size_t size)
{
    char device[64];
    if (!blockdev_find(wanted->disk, DISK_WAIT_MS, device, sizeof device)) {
        snprintf(text, size, "no disk has the serial %s", wanted->disk);
        return false;
    }
    const char *found = look_at(device);
    const char *filesystem = *wanted->filesystem != '\0' ? wanted->filesystem : found;
    if (filesystem == NULL) {
        snprintf(text, size, "disk %s: nothing on it is known as a file system", wanted->disk);
        return false;
    }
    if (!make_directories(wanted->path)) {
        snprintf(text, size, "disk %s: no directory %s can be made: %s", wanted->disk, wanted->path, strerror(errno));
        return false;
    }
    if (mount(device, wanted->path, filesystem, wanted->readonly ? MS_RDONLY : MS_NOATIME, NULL) != 0) {
        const char *why = errno == ENODEV ? "this kernel does not know it" : strerror(errno);
        snprintf(text, size, "disk %s: cannot mount its %s on %s: %s", wanted->disk, filesystem, wanted->path, why);
        return false;
    }
    if (!wanted->readonly) {
        int top = open(wanted->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top >= 0)
            tops[top_count++] = top;
    }
    return true;
}

bool mounts_make(const struct config *config, char *text, size_t size)
{
    for (size_t i = 0; i < config->mount_count; i++)
        if (!make_one(&config->mounts[i], text, size))
            return false;
    return true;
}

void mounts_leave(void)
{
    if (top_count > 0)
        sync();
    while (top_count > 0) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", tops[--top_count]);
        if (mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
            console_say("a disk cannot be left read-only: %s", strerror(errno)); /* sync has written it all the same */
    }
}
