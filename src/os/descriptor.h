/* SPDX-License-Identifier: MIT */
/*
 * covey's own descriptors, among those of the program.
 *
 * The program may close them (daemons close all that they do not know) and open something else
 * under the same number. So each is kept with the device and inode of its file, and used only where
 * these are still the same. Before Linux 6.9 a pidfd has the inode that all anonymous files have
 * (epoll, eventfd, timerfd, ...): so what should be a pidfd must be one; which one, is not known there.
 * None is ever 0, 1 or 2, which the program may believe closed.
 */
#ifndef CV_DESCRIPTOR_H
#define CV_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pollfd;

struct cv_descriptor {
    int32_t fd;        /* -1: none */
    uint32_t is_pidfd; /* 1: it names a process */
    uint64_t device;
    uint64_t inode;
};

#define CV_NO_DESCRIPTOR ((struct cv_descriptor){.fd = -1})

/* Takes @fd over, close-on-exec as it is, under another number if it is 0, 1 or 2. 0 or a code, with
 * @fd closed. */
int cv_descriptor_take(struct cv_descriptor *descriptor, int fd);

/* One that is always readable, for what has happened already. */
int cv_descriptor_readable(struct cv_descriptor *descriptor);

/* The ends of a pipe, to read and to write, neither of which ever blocks. */
int cv_descriptor_pipe(struct cv_descriptor pair[2]);

/* The two ends of a socket that keeps messages apart, for @whom. */
int cv_descriptor_pair(struct cv_descriptor pair[2], const char *whom);

/* Is there one more to be had? Found out with a copy of @any. 0 or COVEY_ELIMIT. */
int cv_descriptor_check_room(const struct cv_descriptor *any);

/* For what fails without saying why: false, with errno, if the reason may be that no descriptor is left. */
bool cv_descriptor_is_left(void);

/* Is it open, and still the same file? */
bool cv_descriptor_is_ours(const struct cv_descriptor *descriptor);

/* Writes all of it to any descriptor; false with errno. */
bool cv_descriptor_write(int fd, const void *bytes, size_t size);

/* Waits until it can be read, or written to, or has an error: 0, COVEY_ETIMEDOUT without a message, or
 * COVEY_EINTR, without one, after a signal handler. */
int cv_descriptor_wait(int fd, bool for_writing, uint64_t deadline_ns);

/* Closes it, if it is ours, and makes it none. */
void cv_descriptor_close(struct cv_descriptor *descriptor);

/* Closes its file, if it is ours, and keeps its number, which is one more of @by's file then. If that cannot be,
 * nothing is done. */
void cv_descriptor_replace(const struct cv_descriptor *descriptor, const struct cv_descriptor *by);

/* ppoll(): how many are ready; COVEY_ETIMEDOUT or COVEY_EINTR, without a message; or a code. */
int cv_descriptor_poll(struct pollfd *fds, size_t n, uint64_t deadline_ns);

#endif
