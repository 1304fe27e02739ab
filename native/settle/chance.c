/* Random bytes and UUIDs that follow from a seed. They identify, they keep no secrets. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "next.h"

/* libuuid's, which this library is not linked with. */
void uuid_generate(unsigned char uuid[16]);
void uuid_generate_random(unsigned char uuid[16]);
void uuid_generate_time(unsigned char uuid[16]);

static bool seeded;
static uint64_t state;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void read_seed(void)
{
    const char *text = getenv("VOLANT_SETTLE_SEED");
    seeded = text != NULL && text[0] != '\0';
    state = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
    for (; seeded && *text != '\0'; text++)
        state = (state ^ (unsigned char)*text) * 0x100000001b3u;
}

static bool is_seeded(void)
{
    pthread_once(&once, read_seed);
    return seeded;
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t draw(void)
{
    state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static void fill(unsigned char *bytes, size_t length)
{
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < length;) {
        uint64_t drawn = draw();
        for (size_t i = 0; i < sizeof drawn && at < length; i++, drawn >>= 8)
            bytes[at++] = (unsigned char)drawn;
    }
    pthread_mutex_unlock(&lock);
}

ssize_t getrandom(void *bytes, size_t length, unsigned int flags)
{
    FIND_NEXT(next_getrandom, getrandom)
    if (!is_seeded())
        return next_getrandom(bytes, length, flags);
    fill(bytes, length);
    return (ssize_t)length;
}

int getentropy(void *bytes, size_t length)
{
    FIND_NEXT(next_getentropy, getentropy)
    if (!is_seeded())
        return next_getentropy(bytes, length);
    fill(bytes, length);
    return 0;
}

/* Version 4, variant 1 (RFC 9562, sections 4 and 5.4), whatever kind was asked for: no host's address belongs into an image. */
static void make_uuid(unsigned char uuid[16])
{
    fill(uuid, 16);
    uuid[6] = (unsigned char)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (unsigned char)((uuid[8] & 0x3f) | 0x80);
}

void uuid_generate(unsigned char uuid[16])
{
    FIND_NEXT(next_uuid_generate, uuid_generate)
    if (is_seeded())
        make_uuid(uuid);
    else
        next_uuid_generate(uuid);
}

void uuid_generate_random(unsigned char uuid[16])
{
    FIND_NEXT(next_uuid_generate_random, uuid_generate_random)
    if (is_seeded())
        make_uuid(uuid);
    else
        next_uuid_generate_random(uuid);
}

void uuid_generate_time(unsigned char uuid[16])
{
    FIND_NEXT(next_uuid_generate_time, uuid_generate_time)
    if (is_seeded())
        make_uuid(uuid);
    else
        next_uuid_generate_time(uuid);
}
