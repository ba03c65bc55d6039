/* SPDX-License-Identifier: MIT */
/*
 * A connection from within: made of a socket, completed step by step without waiting, so that a
 * listener can have many in the making.
 *
 * Who may touch what. The turns say which thread sends and which receives, and last as long as that
 * does; what is marked so below is theirs alone. Both work on the state of TLS, and neither may make
 * the other wait: so @tls_lock is held for moments, never across a wait; what TLS has to send leaves
 * under it as well, so that it leaves in order. Before the connection is open one thread has it all.
 *
 * In a child of a fork, where @owner is somebody else, nothing is used but to close it; the socket was
 * closed there at the fork (os/unshared.h).
 */
#ifndef CV_CONNECTION_H
#define CV_CONNECTION_H

#include "msg/tls.h"
#include "msg/wire.h"
#include "os/socket.h"

#include <covey/connection.h>

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    CV_END_WHY_MAX = 160,
    CV_MESSAGE_MAX_DEFAULT = 64 << 20,
    CV_HANDSHAKE_TIMEOUT_S = 10,
};

/* Why one direction is over. */
struct cv_end {
    int code; /* 0: it is not */
    char why[CV_END_WHY_MAX];
};

enum cv_stage {
    CV_STAGE_FIRST, /* the listener's side: until a client's first record is whole there is no TLS */
    CV_STAGE_TLS,
    CV_STAGE_HELLO,
    CV_STAGE_HELLO_TAIL, /* what the hello of a later version has more */
    CV_STAGE_OPEN,
};

struct covey_connection {
    pid_t owner;
    enum cv_stage stage;
    bool is_server;
    bool is_wary; /* descriptors can come along: see os/socket.h */
    struct cv_descriptor socket;
    const unsigned char *psk; /* until the handshake is done */
    struct cv_tls *tls;       /* NULL: not yet */
    pthread_mutex_t tls_lock;
    size_t unsent;        /* bytes of a message in what TLS has to send; under that lock */
    bool is_cut;          /* half a message is sent: nothing more will be; under that lock */
    uint64_t message_max; /* of this side */
    uint64_t peer_max;    /* of the other */
    char peer[CV_SOCKET_PEER_MAX];
    uint32_t stopped; /* 1: this process has ended it (covey_connection_stop()) */
    uint32_t awaited; /* by so many threads, in covey_wait() */
    uint32_t is_over; /* 1: nothing more comes; why stands in @received, and stays */

    uint32_t sending; /* a turn (msg/turn.h) */
    struct cv_end sent;

    uint32_t receiving; /* a turn, for all from here on */
    uint32_t chunks;    /* so many more may come before a look at the time */
    struct cv_end received;
    uint64_t came;                           /* bytes from the socket to TLS */
    unsigned char head[CV_WIRE_HELLO_BYTES]; /* or the hello */
    size_t head_have;
    unsigned char *message; /* or the first record */
    size_t message_room;
    size_t message_have;
    size_t message_size; /* when the head is there */
    bool is_whole;

    /* In the making, the listener's. */
    struct covey_connection *older;
    struct covey_connection *newer;
    uint64_t deadline_ns;
    bool writes; /* it waits until it can be written to */
    bool known;  /* it has shown that it has the key: what a listener's list it stands in */
};

enum {
    CV_CONNECTION_READ = 1,  /* goes on when the socket can be read, */
    CV_CONNECTION_WRITE = 2, /* or be written to */
};

/* Takes the socket over, also when it fails. @psk must stay until the connection is open. */
int cv_connection_make(covey_connection **result, struct cv_descriptor *socket, bool is_server,
    const unsigned char psk[CV_TLS_KEY_BYTES], size_t message_max);

/* Has the other side shown that it has the key? */
bool cv_connection_is_known(const covey_connection *connection);

/* Goes on with the handshake. 0: it is open; CV_CONNECTION_READ or _WRITE; a code. */
int cv_connection_advance(covey_connection *connection);

/* One that is not open: the other side is told what TLS has to say, if that needs no waiting. */
void cv_connection_drop(covey_connection *connection);

/* Frees it without a word to the other side. */
void cv_connection_discard(covey_connection *connection);

/* The same failure, with the address in front. */
int cv_connection_fail_at(const char *address, int code);

/* What both kinds of options have. 0 or COVEY_EINVAL. */
int cv_connection_check_key(const void *key, size_t size);

#endif
