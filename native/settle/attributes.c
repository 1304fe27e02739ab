/* The names of extended attributes, in the order of their bytes: file systems list them as they were set, or the other way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "next.h"

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static ssize_t sort_names(char *list, ssize_t length, size_t room)
{
    if (length <= 0 || room == 0)
        return length;
    size_t count = 0, size = (size_t)length;
    for (size_t at = 0; at < size; at += strlen(list + at) + 1)
        count++;
    char *copy = malloc(size);
    const char **names = malloc(count * sizeof *names);
    if (copy == NULL || names == NULL) {
        free(copy);
        free(names);
        errno = ENOMEM;
        return -1;
    }
    memcpy(copy, list, size);
    for (size_t at = 0, i = 0; i < count; at += strlen(copy + at) + 1)
        names[i++] = copy + at;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++)
        list = stpcpy(list, names[i]) + 1;
    free(copy);
    free(names);
    return length;
}

ssize_t listxattr(const char *path, char *list, size_t size)
{
    FIND_NEXT(next_listxattr, listxattr)
    return sort_names(list, next_listxattr(path, list, size), size);
}

ssize_t llistxattr(const char *path, char *list, size_t size)
{
    FIND_NEXT(next_llistxattr, llistxattr)
    return sort_names(list, next_llistxattr(path, list, size), size);
}

ssize_t flistxattr(int fd, char *list, size_t size)
{
    FIND_NEXT(next_flistxattr, flistxattr)
    return sort_names(list, next_flistxattr(fd, list, size), size);
}
