#ifndef KESTREL_INSIDE_H
#define KESTREL_INSIDE_H

/* Opening what lies below a directory, so that no link on the way leads out of it. */

/* The directory is the root of everything on the way, links to absolute paths included. -1 with errno set. */
int open_inside(int root, const char *path, int flags);

/* A link that leads out of the directory is refused: EXDEV. */
int open_beneath(int directory, const char *path, int flags);

#endif
