/* SPDX-License-Identifier: MIT */
#include "msg/connection.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/options.h"
#include "msg/handles.h"
#include "msg/turn.h"
#include "os/clock.h"
#include "sync/any.h"
#include "sync/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CHUNK_BYTES = CV_TLS_PIECE_MAX + 1024, /* from the socket at a time */
    MESSAGE_FIRST = 64 * 1024,             /* memory for a message before more of it has come */
    MESSAGE_KEPT = 64 * 1024,              /* memory that is kept for the next one */
    DRAIN_MAX = 1 << 20,
    ANSWERS_MAX = 256 * 1024,    /* bytes of TLS's own that the other side may leave untaken */
    HANDSHAKE_MAX = 128 * 1024,  /* bytes of the other side's: far more than are needed */
    CHUNKS_AT_ONCE = 4,          /* before it is time to look at the time */
    LATE_NS = 20 * CV_NS_PER_MS, /* for what has come when the time is over: a flood has no end */
    BUSY_NS = 10 * CV_NS_PER_MS,
    CLOSE_S = 1,
};

/* From now on that is what everybody is told. */
static int end_with(struct cv_end *end, int code)
{
    end->code = code;
    (void)snprintf(end->why, sizeof end->why, "%s", covey_error());
    return code;
}

/* Without waiting *************************************************************************** */

/* Of what TLS has to send so much has left. */
static void count_sent(covey_connection *c, size_t n)
{
    cv_tls_sent(c->tls, n);
    c->unsent -= n < c->unsent ? n : c->unsent;
}

/* Sends what TLS has to send: 0 when that is all, CV_CONNECTION_WRITE, or a code. */
static int flush(covey_connection *c)
{
    int r = 0;

    if (!c->tls)
        return 0;
    (void)pthread_mutex_lock(&c->tls_lock);
    while (r == 0) {
        const void *bytes;
        size_t size = cv_tls_output(c->tls, &bytes);
        size_t n = 0;

        if (size == 0)
            break;
        if (c->is_cut)
            n = size; /* answers to what has come, which nobody needs any more */
        else
            r = cv_socket_send(c->socket.fd, bytes, size, &n);
        count_sent(c, n);
    }
    (void)pthread_mutex_unlock(&c->tls_lock);
    return r == CV_SOCKET_PENDING ? CV_CONNECTION_WRITE : r;
}

/* TLS lets a handshake be of any length, and keys be renewed behind it. Nothing is kept of one that does not
 * end, but it would leave no moment to look at the time. */
static int check_handshake(const covey_connection *c)
{
    if (c->stage == CV_STAGE_OPEN || c->came <= HANDSHAKE_MAX)
        return 0;
    return cv_fail(COVEY_EAUTH,
        "the other side does not speak covey's protocol: its handshake has more than %d bytes",
        HANDSHAKE_MAX);
}

/* Takes what has come to TLS: 0 or CV_CONNECTION_READ, or a code. What TLS has no memory for is lost. */
static int take_in(covey_connection *c)
{
    unsigned char chunk[CHUNK_BYTES];
    size_t n = 0;
    int r = check_handshake(c);

    if (r == 0 && c->chunks == 0)
        return CV_CONNECTION_READ;
    if (r == 0)
        r = cv_socket_receive(c->socket.fd, c->is_wary, chunk, sizeof chunk, &n);
    if (r != 0)
        return r == CV_SOCKET_PENDING ? CV_CONNECTION_READ : r;
    c->chunks--;
    c->came += n;
    (void)pthread_mutex_lock(&c->tls_lock);
    r = cv_tls_put(c->tls, chunk, n);
    (void)pthread_mutex_unlock(&c->tls_lock);
    return r == 0 ? 0 : end_with(&c->received, r);
}

static size_t count_unsent(covey_connection *c)
{
    const void *bytes;
    size_t n;

    (void)pthread_mutex_lock(&c->tls_lock);
    n = cv_tls_output(c->tls, &bytes);
    (void)pthread_mutex_unlock(&c->tls_lock);
    return n;
}

/* What TLS says to what has come, a new key for a new key, is sent as far as that needs no waiting. Who
 * asks and does not listen must not fill the memory. */
static int answer(covey_connection *c)
{
    struct cv_error before;

    if (count_unsent(c) == 0)
        return 0;
    cv_error_save(&before);
    (void)flush(c); /* the sender's failure, if it is one */
    cv_error_restore(&before);
    if (count_unsent(c) < ANSWERS_MAX)
        return 0;
    return cv_fail(COVEY_ECORRUPT, "the other side asks, and does not take the answers");
}

/* Reads up to @room bytes: 0 with *n of them, not none; CV_CONNECTION_READ, also when so much was taken in that
 * it is time to look at the time; a code. */
static int read_some(covey_connection *c, void *bytes, size_t room, size_t *n)
{
    for (;;) {
        int r;

        (void)pthread_mutex_lock(&c->tls_lock);
        r = cv_tls_read(c->tls, bytes, room, n);
        (void)pthread_mutex_unlock(&c->tls_lock);
        if (r == COVEY_ENOMEM) /* it does not go on after that */
            (void)end_with(&c->received, r);
        if (r != CV_TLS_WANT)
            return r;
        r = answer(c);
        if (r == 0)
            r = take_in(c);
        if (r != 0)
            return r;
    }
}

/* Reads on until @size bytes are in the head. */
static int read_head(covey_connection *c, size_t size)
{
    while (c->head_have < size) {
        size_t n = 0;
        int r = read_some(c, c->head + c->head_have, size - c->head_have, &n);

        if (r != 0)
            return r;
        c->head_have += n;
    }
    return 0;
}

/* The handshake ***************************************************************************** */

/*
 * A stranger may say much, and slowly, so what is kept of it is small: nothing at first, then its first
 * record. Only if that shows the key does it go on: no stranger has a state of TLS.
 */
static int read_first(covey_connection *c, size_t size)
{
    while (c->message_have < size) {
        size_t n = 0;
        int r = cv_socket_receive(
            c->socket.fd, c->is_wary, c->message + c->message_have, size - c->message_have, &n);

        if (r != 0)
            return r == CV_SOCKET_PENDING ? CV_CONNECTION_READ : r;
        c->message_have += n;
    }
    return 0;
}

static int make_first_room(covey_connection *c, size_t size)
{
    unsigned char *more = c->message_room < size ? realloc(c->message, size) : c->message;

    if (!more)
        return cv_fail(COVEY_ENOMEM, "no memory for a connection's first words");
    c->message = more;
    if (c->message_room < size)
        c->message_room = size;
    return 0;
}

static int advance_first(covey_connection *c)
{
    size_t size = 0;
    int r = make_first_room(c, CV_WIRE_FIRST_BYTES);

    if (r == 0)
        r = read_first(c, CV_WIRE_FIRST_BYTES);
    if (r == 0)
        r = cv_wire_read_first(&size, c->message);
    size += CV_WIRE_FIRST_BYTES;
    if (r == 0)
        r = make_first_room(c, size);
    if (r == 0)
        r = read_first(c, size);
    if (r == 0)
        r = cv_tls_open(&c->tls, true, c->psk);
    if (r == 0)
        r = cv_tls_put(c->tls, c->message, size);
    if (r != 0)
        return r;
    free(c->message);
    c->message = NULL;
    c->message_room = c->message_have = 0;
    c->stage = CV_STAGE_TLS;
    return 0;
}

static int write_hello(covey_connection *c)
{
    unsigned char hello[CV_WIRE_HELLO_BYTES];

    cv_wire_write_hello(hello, c->message_max);
    return cv_tls_write(c->tls, hello, sizeof hello);
}

static int advance_tls(covey_connection *c)
{
    int r = cv_tls_handshake(c->tls);

    if (r == 0) {
        c->stage = CV_STAGE_HELLO;
        return write_hello(c);
    }
    if (r != CV_TLS_WANT)
        return r;
    if (c->is_server && !cv_tls_is_known(c->tls))
        return cv_fail(COVEY_EAUTH, "the other side's first words do not show that it has the key");
    return take_in(c);
}

static int advance_hello(covey_connection *c)
{
    struct cv_wire_hello hello;
    int r = read_head(c, CV_WIRE_HELLO_BYTES);

    if (r == 0)
        r = cv_wire_read_hello(&hello, c->head);
    if (r != 0)
        return r;
    c->peer_max = hello.message_max;
    c->message_size = hello.size - CV_WIRE_HELLO_BYTES;
    c->stage = CV_STAGE_HELLO_TAIL;
    return 0;
}

static int advance_hello_tail(covey_connection *c)
{
    while (c->message_size > 0) {
        size_t n = 0;
        size_t most = c->message_size < sizeof c->head ? c->message_size : sizeof c->head;
        int r = read_some(c, c->head, most, &n);

        if (r != 0)
            return r;
        c->message_size -= n;
    }
    c->head_have = 0;
    c->stage = CV_STAGE_OPEN;
    return 0;
}

static int advance_stage(covey_connection *c)
{
    switch (c->stage) {
    case CV_STAGE_FIRST:
        return advance_first(c);
    case CV_STAGE_TLS:
        return advance_tls(c);
    case CV_STAGE_HELLO:
        return advance_hello(c);
    default:
        return advance_hello_tail(c);
    }
}

/* What is corrupt before a connection is open is no listener or client of covey's. */
static int fail_corrupt(void)
{
    char why[CV_END_WHY_MAX];

    (void)snprintf(why, sizeof why, "%s", covey_error());
    return cv_fail(COVEY_EAUTH, "%s", why);
}

bool cv_connection_is_known(const covey_connection *c)
{
    return c->tls && cv_tls_is_known(c->tls);
}

int cv_connection_advance(covey_connection *c)
{
    c->chunks = CHUNKS_AT_ONCE;
    for (;;) {
        int flushed = flush(c);
        int r;

        if (flushed != 0)
            return flushed;
        if (c->stage == CV_STAGE_OPEN)
            return 0;
        r = advance_stage(c);
        if (r == COVEY_ECLOSED)
            r = cv_fail(COVEY_EDIED, "the other side has closed the connection at once");
        if (r == COVEY_ECORRUPT)
            r = fail_corrupt();
        if (r == CV_CONNECTION_READ) { /* not before what it waits for is sent */
            flushed = flush(c);
            return flushed ? flushed : r;
        }
        if (r != 0)
            return r;
    }
}

static void close_socket(covey_connection *c)
{
    if (c->owner == getpid())
        cv_socket_close(&c->socket);
    else
        cv_socket_leave(&c->socket);
}

void cv_connection_discard(covey_connection *c)
{
    cv_handle_remove(c, CV_HANDLE_CONNECTION);
    close_socket(c);
    cv_tls_free(c->tls);
    (void)pthread_mutex_destroy(&c->tls_lock);
    free(c->message);
    free(c);
}

int cv_connection_make(covey_connection **result, struct cv_descriptor *socket, bool is_server,
    const unsigned char psk[CV_TLS_KEY_BYTES], size_t message_max)
{
    covey_connection *c = calloc(1, sizeof *c);
    int r;

    if (!c) {
        cv_socket_close(socket);
        return cv_fail(COVEY_ENOMEM, "no memory for a connection");
    }
    c->socket = *socket;
    c->is_wary = cv_socket_lets_rights_in(socket->fd);
    c->owner = getpid();
    c->message_max = message_max ? message_max : (size_t)CV_MESSAGE_MAX_DEFAULT;
    c->psk = psk;
    c->is_server = is_server;
    c->stage = is_server ? CV_STAGE_FIRST : CV_STAGE_TLS;
    r = pthread_mutex_init(&c->tls_lock, NULL);
    if (r != 0) {
        r = cv_fail(COVEY_ENOMEM, "no lock for a connection: %s", strerror(r));
        cv_socket_close(&c->socket);
        free(c);
        return r;
    }
    r = cv_handle_add(c, CV_HANDLE_CONNECTION);
    if (r == 0 && !is_server)
        r = cv_tls_open(&c->tls, false, psk);
    if (r == 0)
        *result = c;
    else
        cv_connection_discard(c);
    return r;
}

void cv_connection_drop(covey_connection *c)
{
    (void)flush(c);
    cv_connection_discard(c);
}

/* Waiting *********************************************************************************** */

/* 0, COVEY_ETIMEDOUT without a message, or a code. */
static int await(int fd, bool for_writing, uint64_t deadline_ns)
{
    for (;;) {
        int r = cv_descriptor_wait(fd, for_writing, deadline_ns);

        if (r != COVEY_EINTR)
            return r;
        r = cv_wait_interrupted(NULL);
        if (r != 0)
            return r;
    }
}

static int check_stopped(covey_connection *c)
{
    return cv_load_acquire(&c->stopped)
               ? cv_fail(COVEY_ECLOSED, "this process has stopped the connection")
               : 0;
}

static int flush_until(covey_connection *c, uint64_t deadline_ns)
{
    for (;;) {
        int r = flush(c);

        if (r == 0)
            return 0;
        if (check_stopped(c) != 0)
            return COVEY_ECLOSED;
        if (r == CV_CONNECTION_WRITE)
            r = await(c->socket.fd, true, deadline_ns);
        if (r != 0)
            return r;
    }
}

/* Opening *********************************************************************************** */

int cv_connection_fail_at(const char *address, int code)
{
    char why[CV_END_WHY_MAX];

    (void)snprintf(why, sizeof why, "%s", covey_error());
    return cv_fail(code, "%s: %s", cv_address_say(address).text, why);
}

static int fail_unanswered(void)
{
    return cv_fail(COVEY_ETIMEDOUT, "somebody listens there, but has not answered");
}

/* Too many are about to be accepted at this Unix socket: the kernel does not say when that is over. */
static int pause_busy(uint64_t deadline_ns)
{
    uint64_t end = cv_clock_now() + BUSY_NS;
    int r;

    if (deadline_ns <= end - BUSY_NS)
        return fail_unanswered();
    r = await(-1, false, end < deadline_ns ? end : deadline_ns);
    return r == COVEY_ETIMEDOUT ? 0 : r;
}

static int connect_to(struct cv_descriptor *socket, const struct cv_socket_targets *targets,
    unsigned i, uint64_t deadline_ns)
{
    int r;

    while ((r = cv_socket_connect(socket, targets, i)) == CV_SOCKET_BUSY) {
        r = pause_busy(deadline_ns);
        if (r != 0)
            return r;
    }
    if (r != CV_SOCKET_PENDING)
        return r;
    r = await(socket->fd, true, deadline_ns);
    if (r == COVEY_ETIMEDOUT)
        r = cv_fail(r, "not connected");
    if (r == 0)
        r = cv_socket_connected(socket->fd);
    if (r != 0)
        cv_socket_close(socket);
    return r;
}

/* An address that does not answer leaves time for those that are still to be tried. */
static uint64_t share(uint64_t deadline_ns, unsigned left)
{
    uint64_t now = cv_clock_now();

    return deadline_ns == CV_FOREVER || deadline_ns <= now ? deadline_ns
                                                           : now + (deadline_ns - now) / left;
}

/* Those of its addresses in turn; of one that failed, the last tells. */
static int connect_to_any(
    struct cv_descriptor *socket, const struct cv_address *address, uint64_t deadline_ns)
{
    struct cv_socket_targets targets;
    int r = cv_socket_find(&targets, address, false);

    if (r != 0)
        return r;
    for (unsigned i = 0; i < targets.n; i++) {
        r = connect_to(socket, &targets, i, share(deadline_ns, targets.n - i));
        if (r == 0 || r == COVEY_EINTR || r == COVEY_ENOMEM || r == COVEY_ELIMIT)
            return r;
    }
    return r;
}

static int complete(covey_connection *c, uint64_t deadline_ns)
{
    for (;;) {
        int r = cv_connection_advance(c);

        if (r != CV_CONNECTION_READ && r != CV_CONNECTION_WRITE)
            return r;
        r = await(c->socket.fd, r == CV_CONNECTION_WRITE, deadline_ns);
        if (r == COVEY_ETIMEDOUT)
            return fail_unanswered();
        if (r != 0)
            return r;
    }
}

static int open_at(const struct covey_connection_options *o, const struct cv_address *address,
    const unsigned char psk[CV_TLS_KEY_BYTES], uint64_t deadline_ns)
{
    struct cv_descriptor socket = CV_NO_DESCRIPTOR;
    covey_connection *c = NULL;
    int r = connect_to_any(&socket, address, deadline_ns);

    if (r == 0)
        r = cv_connection_make(&c, &socket, false, psk, o->message_max);
    if (!c)
        return r;
    cv_socket_peer(c->socket.fd, address, c->peer);
    r = complete(c, deadline_ns);
    if (r == 0)
        *o->connection = c;
    else
        cv_connection_drop(c);
    return r;
}

int cv_connection_check_key(const void *key, size_t size)
{
    if (!key)
        return cv_fail(COVEY_EINVAL, "key is NULL: without one nobody can be trusted");
    if (size < COVEY_KEY_MIN)
        return cv_fail(COVEY_EINVAL,
            "key_size is %zu: a key has %d bytes or more, and should have 32", size, COVEY_KEY_MIN);
    return 0;
}

static int check_options(const struct covey_connection_options *o, struct cv_address *address)
{
    int r = 0;

    if (!o->connection)
        return cv_fail(
            COVEY_EINVAL, "connection is NULL: there is no place for the new connection");
    r = cv_address_read(address, o->address);
    if (r == 0 && address->kind == CV_ADDRESS_TCP && address->port == 0)
        r = cv_fail(COVEY_EINVAL, "%s: nobody can be at port 0", o->address);
    if (r == 0 && cv_address_is_any(address))
        r = cv_fail(COVEY_EINVAL, "%s: * is for listeners, and no machine", o->address);
    if (r == 0 && !(o->timeout_s >= 0))
        r = cv_fail(COVEY_EINVAL, "timeout_s is %g: 0 or more can be", o->timeout_s);
    return r == 0 ? cv_connection_check_key(o->key, o->key_size) : r;
}

/* The same failure, with the time that it was given. */
static int fail_late(const char *address, double timeout_s)
{
    char why[CV_END_WHY_MAX];

    (void)snprintf(why, sizeof why, "%s within %g s", covey_error(), timeout_s);
    return cv_fail(COVEY_ETIMEDOUT, "%s: %s", cv_address_say(address).text, why);
}

int covey_connection_open_with(const struct covey_connection_options *options)
{
    unsigned char psk[CV_TLS_KEY_BYTES];
    struct covey_connection_options o;
    struct cv_address address;
    struct cv_error before;
    uint64_t deadline_ns;
    int r = cv_options_read(&o, sizeof o, options, "covey_connection_options");

    if (r == 0)
        r = check_options(&o, &address);
    if (o.timeout_s == 0)
        o.timeout_s = CV_HANDSHAKE_TIMEOUT_S;
    if (r == 0)
        r = cv_clock_deadline(o.timeout_s, &deadline_ns);
    if (r == 0)
        r = cv_tls_derive(psk, o.key, o.key_size);
    if (r != 0)
        return r;
    cv_error_save(&before);
    r = open_at(&o, &address, psk, deadline_ns);
    explicit_bzero(psk, sizeof psk);
    if (r == COVEY_ETIMEDOUT && deadline_ns <= cv_clock_now())
        return fail_late(o.address, o.timeout_s);
    if (r != 0)
        return cv_connection_fail_at(o.address, r);
    cv_error_restore(&before);
    return 0;
}

/* Sending *********************************************************************************** */

static int end_is(const struct cv_end *end)
{
    return cv_fail(end->code, "%s", end->why);
}

static int seal(covey_connection *c, const void *bytes, size_t size)
{
    const void *output;
    int r;

    (void)pthread_mutex_lock(&c->tls_lock);
    r = cv_tls_write(c->tls, bytes, size);
    c->unsent = cv_tls_output(c->tls, &output);
    (void)pthread_mutex_unlock(&c->tls_lock);
    return r;
}

/* A message, and how far it is sent. */
struct letter {
    const struct iovec *part; /* from here on it is not */
    size_t at;                /* in that part */
    size_t size;              /* of the whole */
    size_t left;
    bool is_sealed; /* all of it */
};

/* Moves on by up to @most bytes, all of one part: where they are, and how many, not none. */
static const unsigned char *next_bytes(struct letter *l, size_t most, size_t *n)
{
    const unsigned char *bytes;

    while (l->at == l->part->iov_len) {
        l->part++;
        l->at = 0;
    }
    bytes = (const unsigned char *)l->part->iov_base + l->at;
    *n = l->part->iov_len - l->at < most ? l->part->iov_len - l->at : most;
    l->at += *n;
    l->left -= *n;
    return bytes;
}

/* The next record, of which @have bytes are in @piece. What fills one by itself is not copied. */
static int seal_next(covey_connection *c, struct letter *l, unsigned char *piece, size_t have)
{
    size_t n;

    while (l->left > 0 && have < CV_TLS_PIECE_MAX) {
        const unsigned char *bytes = next_bytes(l, CV_TLS_PIECE_MAX - have, &n);

        if (have == 0 && (n == CV_TLS_PIECE_MAX || l->left == 0))
            return seal(c, bytes, n);
        memcpy(piece + have, bytes, n);
        have += n;
    }
    return seal(c, piece, have);
}

/* Half a message is sent: nothing more leaves, and the other side gets the end in its place at once. False
 * if the message is whole: who receives flushes as well, and may have sent its last. */
static bool cut_off(covey_connection *c, const struct letter *l)
{
    bool is_whole;

    (void)pthread_mutex_lock(&c->tls_lock);
    is_whole = l->is_sealed && c->unsent == 0;
    c->is_cut = !is_whole;
    if (c->is_cut)
        cv_socket_end(c->socket.fd);
    (void)pthread_mutex_unlock(&c->tls_lock);
    return !is_whole;
}

/* 0 when it is sent. */
static int send_records(covey_connection *c, struct letter *l, uint64_t deadline_ns)
{
    unsigned char piece[CV_TLS_PIECE_MAX];
    size_t have = CV_WIRE_HEAD_BYTES;
    int r;

    cv_wire_write_head(piece, l->size);
    do {
        r = seal_next(c, l, piece, have);
        l->is_sealed = r == 0 && l->left == 0;
        if (r == 0)
            r = flush_until(c, deadline_ns);
        have = 0;
    } while (r == 0 && l->left > 0);
    return r;
}

/* Anything that keeps a message from being sent whole, once it is begun, is the end of sending. */
static int send_begun(covey_connection *c, struct letter *l, uint64_t deadline_ns)
{
    struct cv_error before;
    int r;

    cv_error_save(&before);
    r = send_records(c, l, deadline_ns);
    if (r != 0 && !cut_off(c, l)) {
        cv_error_restore(&before);
        return 0;
    }
    if (r == COVEY_ETIMEDOUT || r == COVEY_EINTR)
        r = cv_fail(COVEY_EBROKEN,
            "a message of %zu bytes was %s in its middle: no more can be sent, so close this "
            "connection, and connect anew",
            l->size, r == COVEY_EINTR ? "interrupted" : "out of time");
    return r == 0 ? 0 : end_with(&c->sent, r);
}

static int send_letter(covey_connection *c, struct letter *l, uint64_t deadline_ns)
{
    int r;

    if (c->sent.code)
        return end_is(&c->sent);
    if (cv_load_acquire(&c->is_over)) /* to close it says this side's end all the same */
        return cv_fail(c->received.code == COVEY_ECORRUPT ? COVEY_ECORRUPT : COVEY_EDIED, "%s",
            c->received.why);
    r = flush_until(c, deadline_ns);
    if (r == 0)
        r = await(c->socket.fd, true, deadline_ns);
    if (r == 0)
        r = check_stopped(c);
    if (r == COVEY_EDIED)
        return end_with(&c->sent, r);
    return r == 0 ? send_begun(c, l, deadline_ns) : r;
}

/* Receiving ********************************************************************************* */

/* Memory grows with what has come. */
static int make_room(covey_connection *c)
{
    size_t room = c->message_room ? c->message_room * 2 : (size_t)MESSAGE_FIRST;
    unsigned char *more;

    if (c->message_have < c->message_room)
        return 0;
    if (room > c->message_size)
        room = c->message_size;
    if (room < c->message_have + 1)
        room = c->message_have + 1;
    more = realloc(c->message, room);
    if (!more)
        return cv_fail(COVEY_ENOMEM, "no memory for a message of %zu bytes", c->message_size);
    c->message = more;
    c->message_room = room;
    return 0;
}

/* Reads on until a message is whole: 0, CV_CONNECTION_READ, or a code. */
static int assemble(covey_connection *c)
{
    int r = 0;

    if (c->is_whole)
        return 0;
    if (c->head_have < CV_WIRE_HEAD_BYTES) {
        r = read_head(c, CV_WIRE_HEAD_BYTES);
        if (r == 0)
            r = cv_wire_read_head(&c->message_size, c->head, c->message_max);
    }
    while (r == 0 && c->message_have < c->message_size) {
        size_t left = c->message_size - c->message_have;
        size_t n = 0;

        r = make_room(c);
        if (r == 0 && left > c->message_room - c->message_have)
            left = c->message_room - c->message_have;
        if (r == 0)
            r = read_some(c, c->message + c->message_have, left, &n);
        c->message_have += n;
    }
    c->is_whole = r == 0;
    return r;
}

static bool is_end(int code)
{
    return code == COVEY_ECLOSED || code == COVEY_EDIED || code == COVEY_ECORRUPT;
}

/* Only between messages is an end what the other side wanted. */
static int end_receiving(covey_connection *c, int code)
{
    if (code == COVEY_ECLOSED && c->head_have == 0)
        (void)cv_fail(code, "the other side has closed the connection");
    else if (code == COVEY_ECLOSED)
        code = cv_fail(COVEY_EDIED, "the other side has ended in the middle of a message");
    else if (code == COVEY_EDIED && c->head_have > 0)
        (void)cv_fail(code, "the other side is gone in the middle of a message");
    if (code == COVEY_ECORRUPT)
        (void)flush(c); /* what TLS says to that */
    (void)end_with(&c->received, code);
    cv_store_release(&c->is_over, 1);
    return code;
}

/* Until when the other side may go on. It may have more to say than is read in the meantime, without end. */
static uint64_t late(uint64_t deadline_ns)
{
    uint64_t now = cv_clock_now();

    if (deadline_ns == CV_FOREVER)
        return CV_FOREVER;
    return (deadline_ns > now ? deadline_ns : now) + LATE_NS;
}

static int await_more(covey_connection *c, uint64_t deadline_ns, uint64_t late_ns)
{
    if (late_ns != CV_FOREVER && cv_clock_now() >= late_ns)
        return COVEY_ETIMEDOUT;
    if (c->chunks == 0) /* perhaps it is there already */
        return 0;
    return deadline_ns ? await(c->socket.fd, false, deadline_ns) : COVEY_ETIMEDOUT;
}

/* 0: there is a message; COVEY_ETIMEDOUT without a message. */
static int await_message(covey_connection *c, uint64_t deadline_ns)
{
    uint64_t late_ns = late(deadline_ns);

    for (;;) {
        int r;

        if (c->received.code)
            return end_is(&c->received);
        r = check_stopped(c);
        if (r != 0)
            return r;
        c->chunks = CHUNKS_AT_ONCE;
        r = assemble(c);
        if (r == COVEY_EDIED && check_stopped(c) != 0)
            return COVEY_ECLOSED;
        if (is_end(r))
            return end_receiving(c, r);
        if (r != CV_CONNECTION_READ)
            return r;
        r = await_more(c, deadline_ns, late_ns);
        if (r != 0)
            return r;
    }
}

/* The message has been taken; its memory as well, if @message is NULL now. */
static void forget_message(covey_connection *c)
{
    if (!c->message || c->message_room > MESSAGE_KEPT) {
        free(c->message);
        c->message = NULL;
        c->message_room = 0;
    }
    c->message_have = c->message_size = c->head_have = 0;
    c->is_whole = false;
}

/* Public ************************************************************************************ */

static int check(const covey_connection *c)
{
    if (!c)
        return cv_fail(COVEY_EINVAL, "connection is NULL");
    if (!cv_handle_is(c, CV_HANDLE_CONNECTION))
        return cv_fail(COVEY_EINVAL,
            "%p is not a connection of this process: never made, closed, or another process's",
            (const void *)c);
    return 0;
}

static int check_owner(const covey_connection *c)
{
    int r = check(c);

    if (r == 0 && c->owner != getpid())
        return cv_fail(COVEY_ENOTOWNER, "the connection to %s is process %d's, and this is %d",
            c->peer, (int)c->owner, (int)getpid());
    return r;
}

/* Another thread's turn may last; a deadline is a deadline then, too. */
static int begin(covey_connection *c, bool to_send, double timeout_s, uint64_t *deadline_ns)
{
    int r = check_owner(c);

    if (r == 0)
        r = cv_clock_deadline(timeout_s, deadline_ns);
    if (r == 0 && !cv_descriptor_is_ours(&c->socket))
        r = cv_fail(
            COVEY_ESTATE, "the program has closed descriptor %d, a connection's", c->socket.fd);
    if (r != 0)
        return r;
    return cv_turn_take(to_send ? &c->sending : &c->receiving, *deadline_ns);
}

/* What a call comes to, and with whom. */
static int fail_with_peer(const covey_connection *c, int r, const char *late, double timeout_s)
{
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(r, "%s: %s within %g s", cv_address_say(c->peer).text, late, timeout_s);
    return r == 0 || r == COVEY_EINTR || r == COVEY_ENOTOWNER ? r
                                                              : cv_connection_fail_at(c->peer, r);
}

static int measure(size_t *size, const struct iovec *parts, size_t n)
{
    *size = 0;
    if (!parts && n)
        return cv_fail(COVEY_EINVAL, "parts is NULL, with %zu of them", n);
    for (size_t i = 0; i < n; i++) {
        if (!parts[i].iov_base && parts[i].iov_len)
            return cv_fail(
                COVEY_EINVAL, "part %zu is NULL, with a size of %zu", i, parts[i].iov_len);
        if (__builtin_add_overflow(*size, parts[i].iov_len, size))
            return cv_fail(COVEY_ETOOBIG, "the parts have more bytes than there can be");
    }
    return 0;
}

int covey_connection_send_parts(
    covey_connection *c, const struct iovec *parts, size_t n, double timeout_s)
{
    struct letter letter = {.part = parts};
    uint64_t deadline_ns;
    int r = check(c);

    if (r == 0)
        r = measure(&letter.size, parts, n);
    if (r != 0)
        return r;
    if (letter.size > c->peer_max)
        return cv_fail(COVEY_ETOOBIG,
            "%s: a message of %zu bytes: the other side accepts up to %llu",
            cv_address_say(c->peer).text, letter.size, (unsigned long long)c->peer_max);
    letter.left = letter.size;
    r = begin(c, true, timeout_s, &deadline_ns);
    if (r == 0) {
        r = send_letter(c, &letter, deadline_ns);
        cv_turn_give(&c->sending);
    }
    return fail_with_peer(c, r, "no room for a message", timeout_s);
}

int covey_connection_send(covey_connection *c, const void *bytes, size_t size, double timeout_s)
{
    union {
        const void *read;
        void *bytes;
    } part = {bytes}; /* only read, all the same */

    int r = check(c);

    if (r == 0 && !bytes && size)
        r = cv_fail(COVEY_EINVAL, "bytes is NULL, with a size of %zu", size);
    if (r != 0)
        return r;
    return covey_connection_send_parts(c, &(struct iovec){part.bytes, size}, 1, timeout_s);
}

static int fail_to_receive(const covey_connection *c, int r, double timeout_s)
{
    return fail_with_peer(c, r, "no whole message", timeout_s);
}

int covey_connection_receive(
    covey_connection *c, void *bytes, size_t room, size_t *size, double timeout_s)
{
    uint64_t deadline_ns;
    size_t has = 0;
    int r = check(c);

    if (r != 0)
        return r;
    if (!bytes && room)
        return cv_fail(COVEY_EINVAL, "bytes is NULL, with room for %zu", room);
    r = begin(c, false, timeout_s, &deadline_ns);
    if (r != 0)
        return fail_to_receive(c, r, timeout_s);
    r = await_message(c, deadline_ns);
    if (r == 0) {
        has = c->message_size;
        if (size)
            *size = has;
        if (has > room)
            r = cv_fail(
                COVEY_ETOOBIG, "the message has %zu bytes: there is room for %zu", has, room);
    }
    if (r == 0) {
        if (bytes && has)
            memcpy(bytes, c->message, has);
        forget_message(c);
    }
    cv_turn_give(&c->receiving);
    return fail_to_receive(c, r, timeout_s);
}

int covey_connection_receive_alloc(
    covey_connection *c, void **bytes, size_t *size, double timeout_s)
{
    uint64_t deadline_ns;
    int r = check(c);

    if (r != 0)
        return r;
    if (!bytes || !size)
        return cv_fail(COVEY_EINVAL, "%s is NULL", bytes ? "size" : "bytes");
    r = begin(c, false, timeout_s, &deadline_ns);
    if (r != 0)
        return fail_to_receive(c, r, timeout_s);
    r = await_message(c, deadline_ns);
    if (r == 0 && !c->message)
        r = make_room(c);
    if (r == 0) {
        *bytes = c->message;
        *size = c->message_size;
        c->message = NULL;
        forget_message(c);
    }
    cv_turn_give(&c->receiving);
    return fail_to_receive(c, r, timeout_s);
}

/* 1 when receiving would not wait, 0 when the time is over, or a code. */
static int poll_in_turn(covey_connection *c, uint64_t deadline_ns)
{
    struct cv_error before;
    int r;

    cv_error_save(&before);
    r = await_message(c, deadline_ns);
    cv_turn_give(&c->receiving);
    if (r == COVEY_ETIMEDOUT)
        return 0;
    if (r != 0 && !is_end(r) && !c->received.code)
        return fail_with_peer(c, r, "", 0);
    cv_error_restore(&before);
    return 1;
}

int covey_connection_poll(covey_connection *c, double timeout_s)
{
    uint64_t deadline_ns;
    int r = begin(c, false, timeout_s, &deadline_ns);

    return r == 0 ? poll_in_turn(c, deadline_ns) : r == COVEY_ETIMEDOUT ? 0 : r;
}

int covey_connection_fd(covey_connection *c)
{
    int r = check_owner(c);

    return r == 0 ? c->socket.fd : r;
}

static int check_for_any(void *object)
{
    covey_connection *c = object;
    int r = check_owner(c);

    if (r == 0)
        (void)cv_fetch_add(&c->awaited, 1);
    return r;
}

static void end_for_any(void *object)
{
    covey_connection *c = object;

    (void)cv_fetch_sub(&c->awaited, 1);
}

/* What has come to TLS no descriptor tells of: so it is all made use of here. */
static int look_for_any(
    void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    uint64_t deadline_ns;
    int r = begin(object, false, 0, &deadline_ns);

    (void)arm;
    (void)target;
    (void)lives;
    return r == 0 ? poll_in_turn(object, deadline_ns) : r == COVEY_ETIMEDOUT ? CV_ANY_BUSY : r;
}

static int descriptor_for_any(void *object, struct cv_descriptor *own)
{
    (void)own;
    return covey_connection_fd(object);
}

__attribute__((constructor)) static void register_kind(void)
{
    static const struct cv_any_kind kind = {
        check_for_any, look_for_any, descriptor_for_any, CV_ANY_READABLE};

    cv_any_set(COVEY_WAIT_CONNECTION, &kind);
    cv_any_set_end(COVEY_WAIT_CONNECTION, end_for_any);
}

const char *covey_connection_peer(covey_connection *c)
{
    return check(c) == 0 ? c->peer : NULL;
}

size_t covey_connection_message_max(covey_connection *c)
{
    if (check(c) != 0)
        return 0;
    return c->peer_max < SIZE_MAX ? (size_t)c->peer_max : SIZE_MAX;
}

/* The end is for the other side to believe only if all messages are whole. */
static void end_sending(covey_connection *c, uint64_t deadline_ns)
{
    int r = c->sent.code;

    if (r != 0)
        return;
    (void)cv_fail(COVEY_ECLOSED, "the connection has ended");
    (void)end_with(&c->sent, COVEY_ECLOSED);
    (void)pthread_mutex_lock(&c->tls_lock);
    r = cv_tls_end(c->tls);
    (void)pthread_mutex_unlock(&c->tls_lock);
    if (r == 0)
        (void)flush_until(c, deadline_ns);
}

/* Drops what has come: false if nothing more will. */
static bool drain(covey_connection *c, bool *has_come)
{
    unsigned char sink[CHUNK_BYTES];
    size_t n = 0;
    int r = 0;

    for (size_t all = 0; r == 0 && all < DRAIN_MAX; all += n) {
        r = cv_socket_receive(c->socket.fd, c->is_wary, sink, sizeof sink, &n);
        *has_come = *has_come || r == 0;
    }
    return r == 0 || r == CV_SOCKET_PENDING;
}

/* A socket that is closed over unread bytes, or that more come to, cuts off what it has sent. So these are
 * read, and of one who is still sending as long as he has not taken all. */
static void say_the_end(covey_connection *c)
{
    uint64_t deadline_ns = cv_clock_now() + (uint64_t)CLOSE_S * CV_NS_PER_S;
    bool has_come = false;

    end_sending(c, deadline_ns);
    cv_socket_end(c->socket.fd);
    while (drain(c, &has_come) && has_come && cv_socket_is_sending(c->socket.fd)) {
        uint64_t soon_ns = cv_clock_now() + BUSY_NS;
        int r = await(c->socket.fd, false, soon_ns);

        if ((r != 0 && r != COVEY_ETIMEDOUT) || soon_ns > deadline_ns)
            return;
    }
}

/* Memory that another thread of the parent was changing at the fork is left alone. */
static void close_in_child(covey_connection *c)
{
    bool is_whole =
        c->sending == 0 && c->receiving == 0 && pthread_mutex_trylock(&c->tls_lock) == 0;

    if (!is_whole) {
        cv_socket_leave(&c->socket);
        return;
    }
    (void)pthread_mutex_unlock(&c->tls_lock);
    cv_connection_discard(c);
}

/* The other side gets the end, unless another thread is sending. */
int covey_connection_stop(covey_connection *c)
{
    struct cv_error before;
    int r = check_owner(c);

    if (r != 0)
        return r;
    cv_error_save(&before);
    cv_store_seq(&c->stopped, 1);
    if (cv_turn_take(&c->sending, 0) == 0) {
        end_sending(c, 0);
        cv_turn_give(&c->sending);
    }
    if (cv_descriptor_is_ours(&c->socket))
        cv_socket_cut(c->socket.fd);
    cv_error_restore(&before);
    return 0;
}

int covey_connection_close(covey_connection *c)
{
    struct cv_error before;
    int r = c ? check(c) : 0;

    if (!c || r != 0)
        return r;
    cv_error_save(&before);
    if (c->owner != getpid()) {
        close_in_child(c);
        return 0;
    }
    if (cv_load_acquire(&c->awaited))
        return cv_fail(COVEY_ESTATE, "another thread waits for what comes from %s", c->peer);
    if (cv_turn_take(&c->sending, 0) != 0)
        return cv_fail(COVEY_ESTATE, "another thread is sending to %s", c->peer);
    if (cv_turn_take(&c->receiving, 0) != 0) {
        cv_turn_give(&c->sending);
        return cv_fail(COVEY_ESTATE, "another thread is receiving from %s", c->peer);
    }
    if (cv_descriptor_is_ours(&c->socket))
        say_the_end(c);
    cv_connection_discard(c);
    cv_error_restore(&before);
    return 0;
}
