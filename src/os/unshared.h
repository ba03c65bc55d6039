/* SPDX-License-Identifier: MIT */
/*
 * Sockets that children of a fork are not to keep.
 *
 * The other end of a socket sees that a process is gone when the last copy of its descriptor is
 * closed. A child that had one would keep that from being seen for as long as it lives, and a listener's
 * address from being used again. So each child closes its copies, first of all: by the C library's
 * pthread_atfork(). A child that is made without it (a clone system call) keeps them until it ends or
 * calls exec.
 *
 * What has to be closed stands in a table: the inode of each socket, by its descriptor. A word is set
 * after the descriptor was opened and cleared before it is closed; the child closes what still is that
 * inode. There is no lock, so nothing has to be done before a fork, and no fork can find one held; a
 * fork in the moment between open and set, or clear and close, leaves one copy to the child.
 */
#ifndef CV_UNSHARED_H
#define CV_UNSHARED_H

#include "os/descriptor.h"

/* 0, or COVEY_ENOMEM. A descriptor above a million is not noted. */
int cv_unshared_add(const struct cv_descriptor *socket);

/* Before it is closed. */
void cv_unshared_remove(const struct cv_descriptor *socket);

#endif
