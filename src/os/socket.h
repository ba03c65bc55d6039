/* SPDX-License-Identifier: MIT */
/*
 * Sockets for connections. None of these calls waits, but for looking up the name of a machine, and for
 * a moment where a path is taken over; none raises SIGPIPE. No socket is kept by children of a fork
 * (os/unshared.h).
 *
 * Descriptors that somebody sends along (SCM_RIGHTS) nobody here wants, and to drop one may take as long as he likes:
 * it may be a socket that lingers (SO_LINGER), or have one in its queue. Since Linux 6.16 they can be kept out.
 * Before that, nothing is received with which one comes, and a thread closes the socket.
 */
#ifndef CV_SOCKET_H
#define CV_SOCKET_H

#include "base/address.h"
#include "os/descriptor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    CV_SOCKET_PENDING = 1, /* not now: wait until it can be read, or written to */
    CV_SOCKET_BUSY = 2,    /* not now, and the kernel will not tell when: try again later */
    CV_SOCKET_TARGETS_MAX = 16,
    CV_SOCKET_PEER_MAX = CV_ADDRESS_TEXT_MAX + 48,
};

/* What an address comes to for the kernel: a machine's name may mean several. */
struct cv_socket_targets {
    unsigned n;
    struct {
        struct sockaddr_storage address;
        socklen_t size;
    } target[CV_SOCKET_TARGETS_MAX];
};

/* The file that a Unix socket has in the file system; it is another one if these differ. */
struct cv_socket_file {
    bool exists;
    uint64_t device;
    uint64_t inode;
};

int cv_socket_find(
    struct cv_socket_targets *targets, const struct cv_address *address, bool to_listen);

/* Begins to connect: 0; CV_SOCKET_PENDING: ask by cv_socket_connected() when it can be written to;
 * CV_SOCKET_BUSY, with no socket; COVEY_EREFUSED and others. */
int cv_socket_connect(
    struct cv_descriptor *descriptor, const struct cv_socket_targets *targets, unsigned i);
int cv_socket_connected(int fd);

/* Listens at @address, one of its @targets, which has its real port then. */
int cv_socket_listen(struct cv_descriptor *descriptor, const struct cv_socket_targets *targets,
    struct cv_address *address, int backlog);

/* The same for a path. */
int cv_socket_listen_at_path(struct cv_descriptor *descriptor,
    const struct cv_socket_targets *targets, const struct cv_address *address, int backlog,
    unsigned mode, struct cv_socket_file *file);

/* Removes the path, if it is that file. */
void cv_socket_remove_path(const char *path, const struct cv_socket_file *file);

/* 0; CV_SOCKET_PENDING when there is none, or it has gone again; COVEY_ELIMIT and COVEY_ENOMEM when the
 * machine has nothing left for it. */
int cv_socket_accept(struct cv_descriptor *descriptor, int listening);

/* Who is at the other end, which was connected to or has connected to @address. */
void cv_socket_peer(int fd, const struct cv_address *address, char text[CV_SOCKET_PEER_MAX]);

/* 0 with *n bytes, not none; CV_SOCKET_PENDING; COVEY_EDIED when there is nobody any more, or nothing
 * more to come; COVEY_ECORRUPT when descriptors come along, with @wary: what the next one says. */
int cv_socket_send(int fd, const void *bytes, size_t size, size_t *n);
int cv_socket_receive(int fd, bool wary, void *bytes, size_t room, size_t *n);

/* Can descriptors come along? */
bool cv_socket_lets_rights_in(int fd);

/* Drops what has come, too, so only for a socket of this process's own. */
void cv_socket_close(struct cv_descriptor *descriptor);

/* The same in a child, where it is a copy, if there is one. */
void cv_socket_leave(struct cv_descriptor *descriptor);

/* Nothing more will be sent. */
void cv_socket_end(int fd);

/* Has the other machine yet to confirm something? What a Unix socket has sent is there. */
bool cv_socket_is_sending(int fd);

/* Nothing more will be sent or come, or can be accepted: whoever waits for it goes on. */
void cv_socket_cut(int fd);

#endif
