/* SPDX-License-Identifier: MIT */
/*
 * Sockets by which processes hand descriptors to each other (SCM_RIGHTS).
 *
 * Who can be asked has a name that the kernel has chosen, in a namespace of its own where nothing is left: it
 * ends with the socket. Any process of the machine can send there, so the kernel says with each message whose
 * it is. An answer comes by a pair of sockets, of which one went with the question: nobody else can have it,
 * and who waits for it sees the end of the pair when nobody can answer any more.
 *
 * A message is looked at before it is taken: for what comes with it there may be no room just now.
 *
 * All descriptors are close-on-exec. What fails leaves errno, and no message.
 */
#ifndef CV_PASSING_H
#define CV_PASSING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct cv_passing_name {
    char bytes[6];
};

/* A socket to be asked by, or -1. */
int cv_passing_listen(struct cv_passing_name *name);

/* A socket to ask by, or -1. */
int cv_passing_open(void);

/* Two sockets that are connected: what comes by the first says whose it is. If false, both are -1. */
bool cv_passing_pair(int fds[2]);

/* With @passed, a descriptor; -1: without. ECONNREFUSED if nobody has the name, EAGAIN if too many ask. */
bool cv_passing_ask(
    int fd, const struct cv_passing_name *name, const void *bytes, size_t size, int passed);
bool cv_passing_answer(int fd, const void *bytes, size_t size, int passed);

struct cv_passed {
    pid_t sender; /* 0 if it cannot be known */
    int fd;       /* a descriptor that came with the message; -1: none, */
    bool no_room; /* or it did not fit into this process's table */
};

/*
 * At the next message: how many bytes; 0, too, at the end; or -1. Before it is known whose it is: without the
 * descriptor, as if there were no room; for to close what a stranger has sent may take as long as he likes.
 */
ssize_t cv_passing_look(int fd, void *bytes, size_t size, struct cv_passed *passed);
ssize_t cv_passing_look_first(int fd, void *bytes, size_t size, struct cv_passed *passed);

/* The message. This may wait for a stranger, as above; nothing else here does. */
void cv_passing_take(int fd);

#endif
