/* SPDX-License-Identifier: MIT */
/**
 * covey/connection.h - messages to processes of other families, and on other machines
 *
 * A connection carries messages both ways: bytes of any number up to a limit, each arriving whole, in
 * order, and once, or not at all. One side has a listener (covey/listener.h), the other one opens a
 * connection to its address. Addresses are text:
 *
 *   tcp:HOST:PORT     a machine by name or number, such as tcp:127.0.0.1:7000; [::1] is IPv6
 *   tcp:*:PORT        to listen at, all addresses of this machine (of IPv4, where it has that)
 *   tcp:HOST:0        to listen at, a port that is free: covey_listener_address() tells which
 *   unix:PATH         a socket in the file system of this machine; a relative path is meant, and removed
 *                     by who listens, where the process then is
 *   unix:@NAME        the same without a file (an abstract socket), open to all users
 *
 * Both sides know the same key, and prove it to each other before anything else; all that is sent is
 * encrypted, and cannot be changed, repeated, left out or cut off unnoticed. *Whoever has the key is
 * trusted*: give it to nobody else, and let it be 32 random bytes, for a pass phrase can be guessed by
 * whoever records how a connection begins, or waits for one at the address. It is TLS 1.3 with the key
 * in the place of certificates; docs/wire.md, in the source of covey, says what goes over the
 * wire.
 *
 * OpenSSL 3 is needed for that, and loaded when a process first uses a connection or listener; where
 * it is not installed, that fails with COVEY_ESTATE.
 *
 * A connection belongs to the process that has made it, and is private memory, not the arena's: it can
 * be used by all threads of that process and by no other one; in one that was not forked its pointer means
 * nothing, and every function fails with COVEY_EINVAL. One thread may send while another one receives. Of several that send, or receive, each waits its
 * turn; whole messages take turns. That goes for an interrupt hook (covey_on_interrupt()), too: where it
 * interrupts a receiver it may send, and the other way round, but to receive there would be to wait for
 * itself.
 *
 * A child of fork() does not keep the connection open: its copy of the descriptor is closed at the
 * fork. So the other side is told when the owner is killed, whatever children it leaves. In the child
 * every function fails with COVEY_ENOTOWNER, but covey_connection_close(), which there gives back
 * memory and does nothing to the parent's connection. (A child that is made past the C library, by a
 * clone system call, keeps its copy until it calls that, or exec, or ends.)
 *
 * When the other side closes its connection, receiving gives what it had sent before, and then
 * COVEY_ECLOSED. When it vanishes without that (it was killed, its machine is gone, somebody has cut
 * the connection), that is COVEY_EDIED, also in the middle of a message. A program that just exits has not
 * closed its connections: that is COVEY_EDIED for the other side, too. Of a machine that is gone
 * covey learns after about 90 s (before Linux 6.15 after up to 16 minutes, if something was under way to
 * it). One that is there and does not receive is never taken for dead, however long that lasts. Two sides
 * that both send more than the system keeps for them, and do not receive, wait for each other: let
 * another thread receive.
 */
#ifndef COVEY_CONNECTION_H
#define COVEY_CONNECTION_H

#include <covey/family.h>

#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_connection covey_connection;

enum {
    COVEY_KEY_MIN = 16, /* bytes that a key must have */
};

/** struct covey_connection_options - where to connect; zero means the default */
struct covey_connection_options {
    size_t size;                   /* sizeof(struct covey_connection_options) */
    covey_connection **connection; /* out: the connection */
    const char *address;           /* of the listener */
    const void *key;               /* what both sides know: COVEY_KEY_MIN bytes or more; not kept */
    size_t key_size;               /* how many */
    size_t message_max; /* bytes in the largest message that is accepted; default 64 MiB */
    double timeout_s;   /* for all of connecting, in seconds, or COVEY_FOREVER; 0: the default, 10;
                           less is COVEY_EINVAL */
};

/**
 * covey_connection_open() - connect to a listener
 *
 *     covey_connection *connection;
 *     covey_connection_open(&connection, .address = "tcp:127.0.0.1:7000", .key = key, .key_size = 32);
 *
 * The listener's program must be in covey_listener_accept() meanwhile, or come there. The name of a
 * machine is looked up first, which takes as long as the system's resolver allows, whatever @timeout_s
 * says; a number takes no time. Where a name has several addresses, they are tried one by one, each for
 * its share of the time.
 *
 * Returns 0 with the connection in *connection; COVEY_EREFUSED when nobody listens there;
 * COVEY_EAUTH when the other side has another key, or is no listener of covey's; COVEY_EDIED when it
 * hung up before either was clear; COVEY_ETIMEDOUT; COVEY_EINTR (see covey_on_interrupt());
 * COVEY_ESTATE without OpenSSL; COVEY_EINVAL; COVEY_ENOMEM; COVEY_ELIMIT without a free descriptor;
 * COVEY_ESYS.
 */
COVEY_API int covey_connection_open_with(const struct covey_connection_options *options);

/**
 * covey_connection_send() - send a message
 * @connection: the connection
 * @bytes: the message; NULL is allowed for one of no bytes
 * @size: how many bytes
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns when the system has taken all of it; whether it arrives, only an answer can tell. Once receiving
 * (or poll, or covey_wait()) has seen the other side's end, nothing is sent any more: COVEY_EDIED, or
 * COVEY_ECORRUPT where receiving says that.
 *
 * A message is begun when the system has some room for it. When the time is over before that, nothing
 * has been sent: COVEY_ETIMEDOUT, try again. When it is over in the middle of a message, the connection
 * is broken: this call and all later ones that send return COVEY_EBROKEN, and the other side gets
 * COVEY_EDIED in the place of the message, at once. So a message of more than some 16 KiB should have all
 * the time that it may need. Receiving goes on. The same holds for an interrupt hook that gives up: before
 * the message COVEY_EINTR, within it COVEY_EBROKEN.
 *
 * Returns 0; COVEY_ETIMEDOUT; COVEY_EBROKEN; COVEY_EINTR (see covey_on_interrupt()); COVEY_ETOOBIG for
 * more than covey_connection_message_max(); COVEY_EDIED when the other side is gone, or has closed its
 * connection; COVEY_ECORRUPT; COVEY_ECLOSED after covey_connection_stop(); COVEY_ENOTOWNER; COVEY_EINVAL;
 * COVEY_ENOMEM; COVEY_ESTATE when the program has closed the descriptor.
 */
COVEY_API int covey_connection_send(
    covey_connection *connection, const void *bytes, size_t size, double timeout_s);

/**
 * covey_connection_send_parts() - send one message that lies in several places
 * @connection: the connection
 * @parts: where they are and how many bytes each has; NULL is allowed for no parts
 * @n: how many parts; any number, also with no bytes in them
 * @timeout_s: as for covey_connection_send()
 *
 * They arrive as one message. It need not be put together before.
 *
 * Returns the codes of covey_connection_send().
 */
COVEY_API int covey_connection_send_parts(
    covey_connection *connection, const struct iovec *parts, size_t n, double timeout_s);

/**
 * covey_connection_receive() - receive the next message
 * @connection: the connection
 * @bytes: where it goes
 * @room: how many bytes fit there
 * @size: set to the size of the message; NULL: not wanted
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * What has come of a message when the time is over is kept. With @bytes NULL and no @room it says how
 * large the next message is, and takes it only if it has no bytes.
 *
 * Returns 0; COVEY_ETIMEDOUT; COVEY_ETOOBIG when @room is too small: *size says what is needed, and the
 * message stays; COVEY_ECLOSED when the other side has closed the connection and all is received, or
 * after covey_connection_stop(); COVEY_EDIED when it has vanished; COVEY_ECORRUPT when it has sent what
 * covey never sends, such as a message larger than this side accepts; COVEY_EINTR (see
 * covey_on_interrupt()); COVEY_ENOTOWNER; COVEY_EINVAL; COVEY_ENOMEM; COVEY_ESTATE when the program has
 * closed the descriptor. After COVEY_ECLOSED, COVEY_EDIED and COVEY_ECORRUPT, and after COVEY_ENOMEM if something that has come is lost
 * by it, nothing more comes, and the same is returned again.
 */
COVEY_API int covey_connection_receive(
    covey_connection *connection, void *bytes, size_t room, size_t *size, double timeout_s);

/**
 * covey_connection_receive_alloc() - receive the next message, of any size
 * @connection: the connection
 * @bytes: set to the message, in memory that the caller has to free()
 * @size: set to its size
 * @timeout_s: as for covey_connection_receive()
 *
 * Memory is taken as the message comes, not as it is announced. A message of no bytes has memory to be
 * freed, too.
 *
 * Returns the codes of covey_connection_receive().
 */
COVEY_API int covey_connection_receive_alloc(
    covey_connection *connection, void **bytes, size_t *size, double timeout_s);

/**
 * covey_connection_poll() - wait until receiving would not wait
 * @connection: the connection
 * @timeout_s: how long at most, in seconds; 0 or less: only look; COVEY_FOREVER
 *
 * Returns 1 when there is a message, or never will be one: receive tells which; 0 when the time is
 * over; COVEY_EINTR; COVEY_ENOTOWNER; COVEY_EINVAL; COVEY_ENOMEM; COVEY_ESTATE.
 */
COVEY_API int covey_connection_poll(covey_connection *connection, double timeout_s);

/**
 * covey_connection_fd() - a descriptor that becomes readable when something comes
 *
 * For poll() and its kind (covey_wait() takes the connection itself, and does what is said here); it stays
 * covey's: do not read, write or close it. Messages may wait inside of the connection when the descriptor
 * is not readable: call covey_connection_poll() with 0 until it says 0 before you wait for it. And when
 * it is readable, that need not be a whole message: the same call takes what has come.
 *
 * Returns the descriptor; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_connection_fd(covey_connection *connection);

/**
 * covey_connection_peer() - who is at the other end, in words
 *
 * Its address, and for a Unix socket its process and user as the kernel knows them. Valid until the
 * connection is closed; NULL with COVEY_EINVAL.
 */
COVEY_API const char *covey_connection_peer(covey_connection *connection);

/** covey_connection_message_max() - the largest message that the other side accepts, in bytes; 0 if
 * this is not a connection */
COVEY_API size_t covey_connection_message_max(covey_connection *connection);

/**
 * covey_connection_close() - end a connection
 * @connection: the connection, which must not be used any more; NULL does nothing
 *
 * All that was sent is on its way, and then the other side is told that this is the end. It waits at
 * most 1 s for that: if the system has no room for it, the other side sees a connection that was cut
 * off. What has come and was not received is dropped. If the other side is sending, this second is also
 * there for it to take what was sent: what it has not taken then is lost, and it gets COVEY_EDIED.
 *
 * Returns 0; COVEY_ESTATE while another thread sends, receives or waits: see covey_connection_stop();
 * COVEY_EINVAL.
 */
COVEY_API int covey_connection_close(covey_connection *connection);

/**
 * covey_connection_stop() - end a connection that other threads use
 * @connection: the connection, which has to be closed all the same
 *
 * From now on sending and receiving fail with COVEY_ECLOSED, also in those threads that wait in it just
 * now; when they have all returned, the connection can be closed. The other side gets the end, or
 * COVEY_EDIED if a message was being sent. Waits for nobody.
 *
 * Returns 0; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_connection_stop(covey_connection *connection);

#ifndef __cplusplus
/* covey_connection_open(&connection, .OPTION = VALUE, ...) */
#define covey_connection_open(...)                                                                 \
    covey_connection_open_with(&(struct covey_connection_options){                                 \
        .size = sizeof(struct covey_connection_options), .connection = __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
