#include "entropy.h"

#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool entropy_add(const uint8_t bytes[ENTROPY_SIZE])
{
    struct {
        int bits;
        int size;
        uint8_t bytes[ENTROPY_SIZE];
    } pool = {.bits = 8 * ENTROPY_SIZE, .size = ENTROPY_SIZE};
    memcpy(pool.bytes, bytes, ENTROPY_SIZE);
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && ioctl(fd, RNDADDENTROPY, &pool) == 0 && ioctl(fd, RNDRESEEDCRNG) == 0;
    if (fd >= 0)
        close(fd);
    explicit_bzero(&pool, sizeof pool);
    return done;
}
