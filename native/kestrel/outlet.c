#include "outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct chunk {
    struct chunk *next;
    size_t length;
    uint8_t bytes[CHUNK_BYTES];
};

static size_t kept; /* in the chunks of all outlets */

static void drop_first(struct outlet *outlet)
{
    struct chunk *chunk = outlet->first;
    outlet->first = chunk->next;
    outlet->start = 0;
    if (outlet->first == NULL)
        outlet->last = NULL;
    free(chunk);
    kept -= CHUNK_BYTES;
}

void outlet_drop(struct outlet *outlet)
{
    size_t length = outlet->length;
    while (outlet->first != NULL)
        drop_first(outlet);
    outlet->length = 0;
    if (length > 0)
        outlet->passed(outlet, length);
}

void outlet_close(struct outlet *outlet)
{
    loop_close(&outlet->watch);
    outlet->held = false;
    outlet->writable = false;
    outlet_drop(outlet);
}

/* The number of bytes that the descriptor took. */
static size_t write_some(struct outlet *outlet, const uint8_t *bytes, size_t length)
{
    size_t done = 0;
    while (outlet->writable && done < length) {
        ssize_t written = write(outlet->watch.fd, bytes + done, length - done);
        if (written > 0)
            done += (size_t)written;
        else if (written < 0 && errno == EAGAIN)
            outlet->writable = false;
        else if (written == 0 || errno != EINTR)
            loop_close(&outlet->watch); /* nobody reads any more: what comes is thrown away, as a broken pipe would */
        if (outlet->watch.fd < 0)
            outlet->writable = false;
    }
    return done;
}

static void write_kept(struct outlet *outlet)
{
    while (outlet->writable && outlet->first != NULL) {
        struct chunk *chunk = outlet->first;
        size_t done = write_some(outlet, chunk->bytes + outlet->start, chunk->length - outlet->start);
        outlet->start += done;
        outlet->length -= done;
        if (outlet->start == chunk->length)
            drop_first(outlet);
        if (done > 0)
            outlet->passed(outlet, done);
    }
    if (outlet->watch.fd < 0 && !outlet->held)
        outlet_drop(outlet);
    if (outlet->end_wanted && outlet->length == 0 && outlet->watch.fd >= 0) {
        shutdown(outlet->watch.fd, SHUT_WR); /* a pipe is no socket, and is closed just so */
        outlet_close(outlet);
    }
}

static void on_writable(struct watch *watch, uint32_t events)
{
    struct outlet *outlet = watch->owner;
    (void)events;
    outlet->writable = true;
    write_kept(outlet);
}

bool outlet_open(struct outlet *outlet, int fd)
{
    outlet->watch = (struct watch){fd, on_writable, outlet};
    outlet->held = false;
    outlet->writable = true;
    if (!loop_watch(&outlet->watch, EPOLLOUT | EPOLLET)) {
        int error = errno;
        outlet_close(outlet);
        errno = error;
        return false;
    }
    write_kept(outlet);
    return true;
}

static bool keep(struct outlet *outlet, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        struct chunk *last = outlet->last;
        if (last == NULL || last->length == CHUNK_BYTES) {
            struct chunk *chunk = kept + CHUNK_BYTES > OUTLETS_KEEP_MAX ? NULL : malloc(sizeof *chunk);
            if (chunk == NULL)
                return false;
            kept += CHUNK_BYTES;
            chunk->next = NULL;
            chunk->length = 0;
            if (last == NULL)
                outlet->first = chunk;
            else
                last->next = chunk;
            outlet->last = last = chunk;
        }
        size_t room = CHUNK_BYTES - last->length, part = length < room ? length : room;
        memcpy(last->bytes + last->length, bytes, part);
        last->length += part;
        outlet->length += part;
        bytes += part;
        length -= part;
    }
    return true;
}

bool outlet_put(struct outlet *outlet, const uint8_t *bytes, size_t length)
{
    if (outlet->first == NULL) {
        size_t done = write_some(outlet, bytes, length);
        if (outlet->watch.fd < 0 && !outlet->held)
            done = length;
        if (done > 0)
            outlet->passed(outlet, done);
        bytes += done;
        length -= done;
    }
    return keep(outlet, bytes, length);
}

void outlet_end(struct outlet *outlet)
{
    outlet->end_wanted = true;
    write_kept(outlet);
}
