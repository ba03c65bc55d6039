/* SPDX-License-Identifier: MIT */
/*
 * Sockets by which processes hand descriptors to each other (SCM_RIGHTS).
 *
 * They keep messages apart, and tell at once when the other side's process has ended. Who listens has a
 * name that the kernel has chosen, in a namespace of its own where nothing is left: it ends with the
 * socket. Any process of the machine can connect, so both sides ask the kernel who the other is.
 *
 * Nothing here blocks; all descriptors are close-on-exec. What fails leaves errno, and no message.
 */
#ifndef CV_PASSING_H
#define CV_PASSING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct cv_passing_name {
    char bytes[6];
};

/* A socket that listens, or -1. */
int cv_passing_listen(struct cv_passing_name *name);

/* A connection with somebody who has connected; or -1. */
int cv_passing_accept(int listener);

/* A socket for the next, or -1. */
int cv_passing_open(void);

/* A connection with who listens; if false: ECONNREFUSED if nobody does, EAGAIN if too many wait. */
bool cv_passing_connect(int fd, const struct cv_passing_name *name);

/* The process that has connected, or listens; 0 if it cannot be known. */
pid_t cv_passing_peer(int connection);

/* With @passed, a descriptor; -1: without. */
bool cv_passing_send(int connection, const void *bytes, size_t size, int passed);

/* How many bytes; 0 at the end; or -1. *@passed: the descriptor that came with it, or -1. */
ssize_t cv_passing_receive(int connection, void *bytes, size_t size, int *passed);

#endif
