/* SPDX-License-Identifier: MIT */
/*
 * Sockets that children of a fork are not to keep.
 *
 * The other end of a socket sees that a process is gone when the last copy of its descriptor is
 * closed. A child that had one would keep that from being seen for as long as it lives, and a listener's
 * address from being used again. So each child closes its copies, first of all, as os/wiped.c
 * sees to. A child that is made without it (a clone system call) keeps them until it ends or
 * calls exec.
 *
 * What has to be closed stands in a table: the inode of each socket, by its descriptor. The child closes
 * what still is that inode. To open a socket and to note it is one step for forks: both are done under a lock,
 * and a fork takes it, too, the last of all. To close one may take long, and no fork should wait for that: so it
 * is done without the lock, before the socket is struck out.
 */
#ifndef CV_UNSHARED_H
#define CV_UNSHARED_H

#include "os/descriptor.h"

/* Until it is given back there is no fork, and no signal handler (it might fork) in this thread. Nothing may
 * wait meanwhile, nor take another lock than malloc()'s. */
void cv_unshared_lock(void);
void cv_unshared_unlock(void);

/* In a child, of a thread that had the lock: closes all, and gives the lock back. */
void cv_unshared_close(void);

/* Under the lock under which it was opened. 0, or a code. A descriptor above a million is not noted. */
int cv_unshared_add(const struct cv_descriptor *socket);

/* Under the lock, when it is closed. */
void cv_unshared_remove(const struct cv_descriptor *socket);

#endif
