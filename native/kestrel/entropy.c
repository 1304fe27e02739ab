#include "entropy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool entropy_add(const uint8_t *bytes, size_t size)
{
    struct {
        int bits;
        int size;
        uint8_t bytes[ENTROPY_SIZE];
    } pool = {.bits = (int)(8 * size), .size = (int)size};
    memcpy(pool.bytes, bytes, size);
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    explicit_bzero(&pool, sizeof pool);
    errno = error;
    return done;
}
