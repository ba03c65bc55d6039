/* SPDX-License-Identifier: MIT */
/*
 * What a peer that has the key may send: a hello and messages, beside a simple reading of the same bytes
 * (docs/wire.md). Without encryption (tls_plain.c).
 *
 * Input: a byte of flags, two for the largest message, one for how many bytes come at a time; then what
 * the peer sends.
 */
#include "fuzz.h"
#include "tls_plain.h"

#include "msg/connection.h"

#include <covey.h>

#include <sys/socket.h>
#include <unistd.h>

enum {
    CONFIG_BYTES = 4,
    STREAM_MAX = 8192, /* what a socket keeps, in any case */
    ENDS = 1,          /* flags: in order; else it is cut off */
    ALLOCATES = 2,     /* by covey_connection_receive_alloc() */
    IN_PIECES = 4,
};

struct stream {
    const uint8_t *bytes;
    size_t size;
    size_t at; /* how far the simple reading is */
    size_t message_max;
    bool ends;
};

/* The simple reading *********************************************************************** */

static uint64_t number(const uint8_t *bytes, unsigned n)
{
    uint64_t value = 0;

    while (n-- > 0)
        value = value * 256 + *bytes++;
    return value;
}

/* 0, or with which code the connection must fail to open. */
static int expect_hello(struct stream *s)
{
    static const char magic[] = "\300covey\r\n";
    size_t size;

    if (s->size < 24)
        return COVEY_EDIED;
    size = number(s->bytes + 8, 2);
    if (memcmp(s->bytes, magic, 8) != 0 || size < 24 || size > 1024 ||
        number(s->bytes + 10, 2) > 1 || number(s->bytes + 12, 2) < 1)
        return COVEY_EAUTH;
    if (s->size < size)
        return COVEY_EDIED;
    s->at = size;
    return 0;
}

/* The next message: 0 with its bytes, or how receiving must end. */
static int expect_message(struct stream *s, const uint8_t **bytes, size_t *size)
{
    size_t left = s->size - s->at;
    uint64_t n;

    if (left == 0)
        return s->ends ? COVEY_ECLOSED : COVEY_EDIED;
    if (left < 8)
        return COVEY_EDIED;
    n = number(s->bytes + s->at, 8);
    if (n > s->message_max)
        return COVEY_ECORRUPT;
    if (left - 8 < n)
        return COVEY_EDIED;
    *bytes = s->bytes + s->at + 8;
    *size = (size_t)n;
    s->at += 8 + *size;
    return 0;
}

/* The connection *************************************************************************** */

struct peer {
    int fd;
    const struct stream *stream;
    size_t sent;
    size_t step;
};

/* Sends the next piece, or that there is no more. */
static void go_on(struct peer *p)
{
    size_t left = p->stream->size - p->sent;
    size_t n = left < p->step ? left : p->step;

    if (n > 0)
        fuzz_check(send(p->fd, p->stream->bytes + p->sent, n, MSG_NOSIGNAL) == (ssize_t)n);
    p->sent += n;
    if (p->sent == p->stream->size)
        (void)shutdown(p->fd, SHUT_WR);
}

static int open_connection(covey_connection *c, struct peer *p)
{
    int r;

    while ((r = cv_connection_advance(c)) > 0)
        go_on(p);
    return r;
}

static int receive(covey_connection *c, struct peer *p, bool allocates, void **bytes, size_t *size)
{
    static uint8_t room[1 << 16];
    int r;

    do {
        if (allocates)
            r = covey_connection_receive_alloc(c, bytes, size, 0);
        else
            r = covey_connection_receive(c, room, p->stream->message_max, size, 0);
        if (r == COVEY_ETIMEDOUT)
            go_on(p);
    } while (r == COVEY_ETIMEDOUT);
    if (r == 0 && !allocates)
        *bytes = fuzz_copy(room, *size, 0);
    return r;
}

static void compare(covey_connection *c, struct peer *p, struct stream *s, bool allocates)
{
    int expected = expect_hello(s);

    fuzz_check(open_connection(c, p) == expected);
    while (expected == 0) {
        const uint8_t *bytes = NULL;
        void *came = NULL;
        size_t size = 0;
        size_t n = 0;

        expected = expect_message(s, &bytes, &size);
        fuzz_check(receive(c, p, allocates, &came, &n) == expected);
        if (expected == 0)
            fuzz_check(n == size && (n == 0 || memcmp(came, bytes, n) == 0));
        free(came);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const unsigned char psk[CV_TLS_KEY_BYTES];
    struct cv_descriptor own;
    covey_connection *c = NULL;
    int fds[2];

    if (size < CONFIG_BYTES || size - CONFIG_BYTES > STREAM_MAX)
        return 0;
    fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    fuzz_check(cv_descriptor_take(&own, fds[0]) == 0);
    struct stream s = {.bytes = bytes + CONFIG_BYTES,
        .size = size - CONFIG_BYTES,
        .message_max = number(bytes + 1, 2) + 1,
        .ends = bytes[0] & ENDS};
    struct peer p = {fds[1], &s, 0, bytes[0] & IN_PIECES ? bytes[3] + 1U : STREAM_MAX};
    tls_plain_end = s.ends ? s.size : SIZE_MAX;
    fuzz_check(cv_connection_make(&c, &own, false, psk, s.message_max) == 0);
    compare(c, &p, &s, bytes[0] & ALLOCATES);
    cv_connection_discard(c);
    (void)close(fds[1]);
    return 0;
}
