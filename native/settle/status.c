/* What stat says of the tree's files, without what only the machine that holds them knows. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "next.h"
#include "tree.h"

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct stat");

enum { DEVICE = 1, BLOCK = 4096 };

static int64_t earliest_s, latest_s;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_limits(void)
{
    earliest_s = tree_read_number("VOLANT_SETTLE_EARLIEST_S", INT64_MIN);
    latest_s = tree_read_number("VOLANT_SETTLE_LATEST_S", INT64_MAX);
}

/* Whole seconds: not every image format keeps more. */
static int64_t settle_time(int64_t seconds)
{
    pthread_once(&once, read_limits);
    return seconds < earliest_s ? earliest_s : seconds > latest_s ? latest_s : seconds;
}

/* How long a directory is depends on the file system that it is on. */
static int64_t settle_size(mode_t mode, int64_t size)
{
    return S_ISDIR(mode) ? BLOCK : size;
}

/* Nor do holes show: where they are differs too. In units of 512 bytes. */
static int64_t settle_blocks(mode_t mode, int64_t size)
{
    return S_ISREG(mode) ? (size + BLOCK - 1) / BLOCK * (BLOCK / 512) : 0;
}

static int settle(int result, struct stat *status)
{
    const struct tree_file *file = result == 0 ? tree_find(status->st_dev, status->st_ino) : NULL;
    if (file == NULL)
        return result;
    status->st_dev = DEVICE;
    status->st_ino = file->number;
    status->st_nlink = file->links;
    status->st_size = settle_size(status->st_mode, status->st_size);
    status->st_blocks = settle_blocks(status->st_mode, status->st_size);
    status->st_blksize = BLOCK;
    status->st_mtim = (struct timespec){.tv_sec = settle_time(status->st_mtim.tv_sec)};
    status->st_atim = status->st_ctim = status->st_mtim;
    return result;
}

int stat(const char *restrict path, struct stat *restrict status)
{
    FIND_NEXT(next_stat, stat)
    return settle(next_stat(path, status), status);
}

int lstat(const char *restrict path, struct stat *restrict status)
{
    FIND_NEXT(next_lstat, lstat)
    return settle(next_lstat(path, status), status);
}

int fstat(int fd, struct stat *status)
{
    FIND_NEXT(next_fstat, fstat)
    return settle(next_fstat(fd, status), status);
}

int fstatat(int fd, const char *restrict path, struct stat *restrict status, int flags)
{
    FIND_NEXT(next_fstatat, fstatat)
    return settle(next_fstatat(fd, path, status, flags), status);
}

/* fakeroot has functions of its own for these names, which do the same. */
int stat64(const char *restrict path, struct stat64 *restrict status) __attribute__((alias("stat")));
int lstat64(const char *restrict path, struct stat64 *restrict status) __attribute__((alias("lstat")));
int fstat64(int fd, struct stat64 *status) __attribute__((alias("fstat")));
int fstatat64(int fd, const char *restrict path, struct stat64 *restrict status, int flags) __attribute__((alias("fstatat")));

int statx(int fd, const char *restrict path, int flags, unsigned int mask, struct statx *restrict status)
{
    FIND_NEXT(next_statx, statx)
    int result = next_statx(fd, path, flags, mask, status);
    if (result != 0)
        return result;
    const struct tree_file *file = tree_find(makedev(status->stx_dev_major, status->stx_dev_minor), status->stx_ino);
    if (file == NULL)
        return result;
    status->stx_dev_major = major(DEVICE);
    status->stx_dev_minor = minor(DEVICE);
    status->stx_ino = file->number;
    status->stx_nlink = (uint32_t)file->links;
    status->stx_size = (uint64_t)settle_size(status->stx_mode, (int64_t)status->stx_size);
    status->stx_blocks = (uint64_t)settle_blocks(status->stx_mode, (int64_t)status->stx_size);
    status->stx_blksize = BLOCK;
    status->stx_mtime = (struct statx_timestamp){.tv_sec = settle_time(status->stx_mtime.tv_sec)};
    status->stx_atime = status->stx_btime = status->stx_ctime = status->stx_mtime;
    return result;
}
