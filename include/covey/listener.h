/* SPDX-License-Identifier: MIT */
/**
 * covey/listener.h - wait for connections of processes elsewhere
 *
 * A listener has an address, and accepts those who connect to it and know its key; see
 * covey/connection.h for both. Who does not know the key, speaks something else or says nothing is
 * turned away, and nobody else has to wait for that: when there are too many, or no descriptor is left,
 * the oldest of those goes who have not yet shown that they know the key.
 *
 * A listener has no thread of its own: connections are made while the program is in
 * covey_listener_accept(), or waits for the listener in covey_wait(). Those that are not complete when it
 * returns go on in the next call.
 *
 * It belongs to the process that has made it. All threads of the process may use it; of several that
 * accept each waits its turn. A child of fork() does not keep the address in use: as with a connection,
 * its copy of the descriptor is closed at the fork. In the child every function fails with
 * COVEY_ENOTOWNER, but covey_listener_close(), which there gives back memory and two descriptors.
 */
#ifndef COVEY_LISTENER_H
#define COVEY_LISTENER_H

#include <covey/connection.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_listener covey_listener;

/** struct covey_listener_options - where to listen, and to whom; zero means the default */
struct covey_listener_options {
    size_t size;               /* sizeof(struct covey_listener_options) */
    covey_listener **listener; /* out: the listener */
    const char *address;       /* with port 0: one that is free, see covey_listener_address() */
    const void *key;           /* what both sides know: COVEY_KEY_MIN bytes or more; not kept */
    size_t key_size;           /* how many */
    int backlog;               /* connections that the kernel keeps until they are accepted; 128 */
    unsigned mode;             /* permissions of a Unix path; default 0600: this user only */
    unsigned half_open_max;    /* connections that may be in the making, up to 65536; default 128 */
    double handshake_timeout_s; /* how long one may be in the making, in seconds, or COVEY_FOREVER;
                                   0: the default, 10; less is COVEY_EINVAL */
    size_t message_max;         /* bytes in the largest message that is accepted; default 64 MiB */
    /* Called in covey_listener_accept() and covey_wait() for each one that was turned away: who it
     * was, a code (COVEY_EAUTH, COVEY_ETIMEDOUT, COVEY_EDIED, COVEY_ELIMIT ...) and why. It must not
     * use the listener. NULL: nobody wants to know. */
    void (*refused)(const char *peer, int code, const char *why, void *context);
    void *context; /* for that */
};

/**
 * covey_listener_open() - listen at an address
 *
 *     covey_listener *listener;
 *     covey_listener_open(&listener, .address = "unix:/run/service", .key = key, .key_size = 32);
 *
 * A Unix path that a listener has left behind whose process was killed is taken over. To find out whether
 * it was is to connect to it: whoever still listens there has one more that hangs up at once, and is told
 * of it by @refused. The name of a machine means the first of its addresses at which this is possible;
 * tcp:[::]:PORT accepts IPv4, too.
 *
 * Returns 0 with the listener in *listener; COVEY_ESTATE when somebody else listens there, when
 * there is a file at the path and it is no socket, or without OpenSSL; COVEY_EINVAL for an option that is wrong; COVEY_ENOMEM; COVEY_ELIMIT without a free
 * descriptor; COVEY_ESYS.
 */
COVEY_API int covey_listener_open_with(const struct covey_listener_options *options);

/**
 * covey_listener_accept() - the next connection
 * @listener: the listener
 * @connection: set to it
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Without a free descriptor, and with nobody to be turned away for one, those who come have to wait;
 * that is tried ten times a second, and told if there is nothing else to do.
 *
 * One whose time for connecting was over at this very moment has gone without knowing that he was let in:
 * then to receive from him is COVEY_EDIED.
 *
 * Returns 0; COVEY_ETIMEDOUT; COVEY_ELIMIT without a free descriptor: the listener goes on when there is
 * one; COVEY_ECLOSED after covey_listener_stop(); COVEY_EINTR (see covey_on_interrupt());
 * COVEY_ENOTOWNER; COVEY_EINVAL; COVEY_ENOMEM; COVEY_ESTATE when the program has closed the descriptor;
 * COVEY_ESYS.
 */
COVEY_API int covey_listener_accept(
    covey_listener *listener, covey_connection **connection, double timeout_s);

/**
 * covey_listener_address() - where it listens, as others can connect to it
 *
 * With the real port, and with a number for the name of a machine. Valid until the listener is closed;
 * NULL with COVEY_EINVAL.
 */
COVEY_API const char *covey_listener_address(covey_listener *listener);

/**
 * covey_listener_fd() - a descriptor that is readable when accept has something to do
 *
 * For poll() and its kind (covey_wait() takes the listener itself, and tells when there is a connection);
 * it stays covey's: do not read or close it. When it is readable, call
 * covey_listener_accept() with a timeout of 0, which does all that can be done now, and may have no
 * connection to give yet.
 *
 * Returns the descriptor; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_listener_fd(covey_listener *listener);

/**
 * covey_listener_close() - listen no more
 * @listener: the listener, which must not be used any more; NULL does nothing
 *
 * Connections that nobody has accepted are dropped; those that were accepted stay. The path of a Unix
 * socket is removed, if it is still the one that was made.
 *
 * Returns 0; COVEY_ESTATE while another thread accepts or waits: see covey_listener_stop(); COVEY_EINVAL.
 */
COVEY_API int covey_listener_close(covey_listener *listener);

/**
 * covey_listener_stop() - let nobody in any more
 * @listener: the listener, which has to be closed all the same
 *
 * From now on covey_listener_accept() fails with COVEY_ECLOSED, also in threads that wait in it just
 * now; when they have all returned, the listener can be closed. Waits for nobody, and may be called in a
 * signal handler.
 *
 * Returns 0; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_listener_stop(covey_listener *listener);

#ifndef __cplusplus
/* covey_listener_open(&listener, .OPTION = VALUE, ...) */
#define covey_listener_open(...)                                                                   \
    covey_listener_open_with(&(struct covey_listener_options){                                     \
        .size = sizeof(struct covey_listener_options), .listener = __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
