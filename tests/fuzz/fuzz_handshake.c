/* SPDX-License-Identifier: MIT */
/*
 * What strangers may send: one side of a connection is given the input as the first that comes, or two
 * sides of TLS that have the same key, or not the same, are given each other's words with changes on
 * their way.
 *
 * Input: a byte that says which; then one for how many bytes come at a time, and bytes; or changes of
 * four bytes each: where (two), how, what.
 */
#include "fuzz.h"

#include "msg/connection.h"

#include <covey.h>

#include <sys/socket.h>
#include <unistd.h>

enum {
    SERVER,
    CLIENT,
    CHANGED,
    OTHER_KEY,
    WAYS,
    FLIGHT_MAX = 1 << 16,
    INPUT_MAX = 8192, /* what a socket keeps, in any case */
    ROUNDS = 8,
};

enum how {
    XOR,
    CUT,
    REPEAT, /* the rest from here on, once more */
    REMOVE, /* so many bytes */
    HOWS,
};

static const unsigned char psks[2][CV_TLS_KEY_BYTES] = {"one key", "another"};

struct changes {
    const uint8_t *bytes;
    size_t n;
    size_t passed; /* bytes in both directions, before this flight */
    bool made;
};

/* One of both sides may be gone after a failure, and has its alert to say. */
struct side {
    struct cv_tls *tls;
    int r;
};

static void check_result(int r)
{
    fuzz_check(r == 0 || r == CV_TLS_WANT || r == COVEY_EAUTH);
    fuzz_check(r != COVEY_EAUTH || covey_error()[0] != 0);
}

static size_t change(struct changes *ch, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < ch->n; i++) {
        const uint8_t *c = ch->bytes + 4 * i;
        size_t at = (size_t)c[0] << 8 | c[1];

        if (at < ch->passed || at - ch->passed >= size)
            continue;
        at -= ch->passed;
        ch->made = true;
        switch ((enum how)(c[2] % HOWS)) {
        case XOR:
            bytes[at] ^= c[3];
            break;
        case CUT:
            size = at;
            break;
        case REPEAT:
            if (size + size - at <= FLIGHT_MAX) {
                memcpy(bytes + size, bytes + at, size - at);
                size += size - at;
            }
            break;
        default:
            if (c[3] < size - at) {
                memmove(bytes + at, bytes + at + c[3], size - at - c[3]);
                size -= c[3];
            }
        }
    }
    return size;
}

/* All that one side has to say, on its way to the other. */
static void pass(struct changes *ch, struct side *from, struct side *to)
{
    static uint8_t flight[FLIGHT_MAX];
    const void *bytes;
    size_t size = cv_tls_output(from->tls, &bytes);
    size_t before = size;

    fuzz_check(size < FLIGHT_MAX);
    if (size > 0)
        memcpy(flight, bytes, size);
    cv_tls_sent(from->tls, size);
    size = change(ch, flight, size);
    ch->passed += before;
    if (to->r != CV_TLS_WANT || size == 0)
        return;
    fuzz_check(cv_tls_put(to->tls, flight, size) == 0);
    to->r = cv_tls_handshake(to->tls);
    check_result(to->r);
}

/* Both have the same keys now, so what one sends the other reads. */
static void check_agreement(struct cv_tls *from, struct cv_tls *to)
{
    const void *bytes;
    char word[8] = "";
    size_t size;

    fuzz_check(cv_tls_write(from, "agreed", 7) == 0);
    size = cv_tls_output(from, &bytes);
    fuzz_check(cv_tls_put(to, bytes, size) == 0);
    if (cv_tls_read(to, word, sizeof word, &size) == 0)
        fuzz_check(size == 7 && memcmp(word, "agreed", 7) == 0);
}

static void talk(const uint8_t *bytes, size_t size, bool same_key)
{
    struct changes ch = {bytes, size / 4, 0, false};
    struct side client = {NULL, CV_TLS_WANT};
    struct side server = {NULL, CV_TLS_WANT};

    fuzz_check(cv_tls_open(&client.tls, false, psks[0]) == 0);
    fuzz_check(cv_tls_open(&server.tls, true, psks[!same_key]) == 0);
    client.r = cv_tls_handshake(client.tls);
    for (int i = 0; i < ROUNDS; i++) {
        pass(&ch, &client, &server);
        pass(&ch, &server, &client);
    }
    fuzz_check(same_key || (client.r != 0 && server.r != 0));
    fuzz_check(!same_key || ch.made || (client.r == 0 && server.r == 0));
    if (client.r == 0 && server.r == 0)
        check_agreement(client.tls, server.tls);
    cv_tls_free(client.tls);
    cv_tls_free(server.tls);
}

/* Nobody has the key by chance. */
static void say(covey_connection *c, int fd, const uint8_t *bytes, size_t size, size_t step)
{
    int r = cv_connection_advance(c);

    for (size_t at = 0; r > 0 && at < size; at += step) {
        size_t n = size - at < step ? size - at : step;

        fuzz_check(send(fd, bytes + at, n, MSG_NOSIGNAL) == (ssize_t)n);
        r = cv_connection_advance(c);
        fuzz_check(!cv_connection_is_known(c));
    }
    fuzz_check(r == CV_CONNECTION_READ || r == COVEY_EAUTH);
    (void)shutdown(fd, SHUT_WR);
    if (r > 0)
        r = cv_connection_advance(c);
    fuzz_check(r == COVEY_EDIED || r == COVEY_EAUTH);
}

static void listen_to(const uint8_t *bytes, size_t size, bool is_server)
{
    struct cv_descriptor own;
    covey_connection *c = NULL;
    int fds[2];

    if (size == 0)
        return;
    fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    fuzz_check(cv_descriptor_take(&own, fds[0]) == 0);
    fuzz_check(cv_connection_make(&c, &own, is_server, psks[0], 1000) == 0);
    say(c, fds[1], bytes + 1, size - 1, bytes[0] ? bytes[0] * 16U : 1);
    cv_connection_drop(c);
    (void)close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    unsigned char psk[CV_TLS_KEY_BYTES];

    if (size < 1 || size > INPUT_MAX)
        return 0;
    fuzz_check(cv_tls_derive(psk, "0123456789abcdef", 16) == 0);
    switch (bytes[0] % WAYS) {
    case SERVER:
    case CLIENT:
        listen_to(bytes + 1, size - 1, bytes[0] % WAYS == SERVER);
        break;
    default:
        talk(bytes + 1, size - 1, bytes[0] % WAYS == CHANGED);
    }
    return 0;
}
