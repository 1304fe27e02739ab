#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockdev.h"
#include "console.h"
#include "modules.h"

/* All in the initramfs; hidden from everybody once the root is switched. */
#define IMAGE "/.image"
#define LAYER "/.layer"
#define MERGED "/.merged"

enum { DISK_WAIT_MS = 2000 };

static bool image_mounted;
static int layer_fd = -1; /* the disk's top, for freezing it and leaving it clean */

static const char *const MOVED[] = {"/dev", "/proc", "/sys", "/run", "/tmp"};

static bool explain(char *text, size_t size, const char *what, const char *name)
{
    snprintf(text, size, "%s%s: %s", what, name, strerror(errno));
    return false;
}

bool rootfs_mount_image(const char *device, const char *type)
{
    mkdir(IMAGE, 0755);
    image_mounted = mount(device, IMAGE, type, MS_RDONLY, NULL) == 0;
    return image_mounted;
}

bool rootfs_has_image(void)
{
    return image_mounted;
}

/* In a clone the kernel may still hold what it read of the template's disk when it found the device. */
static void forget_cached(const char *device)
{
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, BLKFLSBUF, 0) != 0)
        console_say("%s: cannot drop what is cached of it: %s", device, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static bool mount_layer(const struct config *config, char *text, size_t size)
{
    char device[64];
    mkdir(LAYER, 0755);
    if (config->root == ROOT_MEMORY) {
        if (mount("tmpfs", LAYER, "tmpfs", 0, "mode=0755") != 0)
            return explain(text, size, "cannot make the root's writable layer in memory", "");
        return true;
    }
    if (!blockdev_find(config->root_disk, DISK_WAIT_MS, device, sizeof device)) {
        snprintf(text, size, "no disk has the serial %s", config->root_disk);
        return false;
    }
    forget_cached(device);
    if (mount(device, LAYER, "ext4", MS_NOATIME, NULL) != 0)
        return explain(text, size, "cannot mount the ext4 file system of disk ", config->root_disk);
    layer_fd = open(LAYER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return true;
}

static bool mount_overlay(char *text, size_t size)
{
    if ((mkdir(LAYER "/upper", 0755) != 0 && errno != EEXIST) || (mkdir(LAYER "/work", 0700) != 0 && errno != EEXIST))
        return explain(text, size, "cannot prepare the root's writable layer", "");
    mkdir(MERGED, 0755);
    if (mount("overlay", MERGED, "overlay", 0, "lowerdir=" IMAGE ",upperdir=" LAYER "/upper,workdir=" LAYER "/work") != 0)
        return explain(text, size, "cannot lay the writable layer over the root image", "");
    return true;
}

/* The mount points must be directories of the root itself: a link could lead anywhere. */
static bool prepare_target(const char *target)
{
    struct stat status;
    mkdir(target, 0755);
    return lstat(target, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool enter_root(char *text, size_t size)
{
    int old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof MOVED / sizeof MOVED[0]; i++) {
        char target[32];
        snprintf(target, sizeof target, MERGED "%s", MOVED[i]);
        if (!prepare_target(target)) {
            snprintf(text, size, "%s of the root image is no directory", MOVED[i]);
            return false;
        }
        if (mount(MOVED[i], target, NULL, MS_MOVE, NULL) != 0)
            return explain(text, size, "cannot move ", MOVED[i]);
    }
    if (chdir(MERGED) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        return explain(text, size, "cannot switch to the root", "");
    if (old_root >= 0) {
        modules_discard(old_root);
        unlinkat(old_root, "init", 0);
        close(old_root);
    }
    return true;
}

bool rootfs_switch(const struct config *config, char *text, size_t size)
{
    if (config->root == ROOT_NONE)
        return true;
    if (!image_mounted) {
        snprintf(text, size, "root.writable is given, but the guest was booted without a root disk");
        return false;
    }
    return mount_layer(config, text, size) && mount_overlay(text, size) && enter_root(text, size);
}

bool rootfs_has_disk(void)
{
    return layer_fd >= 0;
}

bool rootfs_freeze(void)
{
    return ioctl(layer_fd, (int)FIFREEZE, 0) == 0;
}

bool rootfs_thaw(void)
{
    return layer_fd >= 0 && ioctl(layer_fd, (int)FITHAW, 0) == 0;
}

void rootfs_leave(void)
{
    rootfs_thaw(); /* a frozen file system can be left in no other way */
    sync();
    if (layer_fd < 0)
        return;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", layer_fd);
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0 || mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
        console_say("the disk cannot be left read-only: %s", strerror(errno)); /* sync has written it all the same */
    sync();
}
