/* SPDX-License-Identifier: MIT */
/*
 * Connections. Each life listens at a name of its own, when it is at this; the others connect, send
 * messages, and get each of them back.
 *
 * So it is known: a message comes whole, once and in order, or the connection ends; it ends without having been
 * closed only if one of the two was killed, or the time of who connects was over just when he was accepted; and
 * nobody hangs, whoever is killed or stopped in whatever step.
 */
#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SERVE_ONCE_IN = 2,
    ACCEPT_MS_MAX = 20,
    CONNECT_MS_MAX = 50,
    MESSAGES_MAX = 6,
    LARGE_ONCE_IN = 6,
    WORDS_MAX = 40000, /* more than fits into a socket */
    KEY_BYTES = 32,
};

struct addresses {
    uint32_t listens[LIVES_MAX + 1];
    unsigned char key[KEY_BYTES];
};

struct message {
    uint32_t life; /* of who has sent it first */
    uint32_t number;
    uint64_t words[WORDS_MAX];
};

static void *set_up(void)
{
    struct addresses *a = covey_calloc(1, sizeof *a);

    check(a != NULL);
    soak_fill(a->key, sizeof a->key, run->seed);
    return a;
}

static void name_address(char *address, size_t size, uint32_t life)
{
    (void)snprintf(address, size, "unix:@covey-soak-%d-%u", (int)cv_load_seq(&run->life[life].pid),
        (unsigned)life);
}

/* What has ended although it was not closed. */
static void check_ended(int r, uint32_t other)
{
    if (r != COVEY_EDIED && r != COVEY_EREFUSED)
        check_int(r, ==, COVEY_ECLOSED);
    if (!cv_load_seq(&run->closing) && !soak_is_doomed(other))
        test_fail(__FILE__, __LINE__, "connection: %s, but life %u was not killed", covey_error(),
            (unsigned)other);
    soak_told(&soak_connection);
}

/* Serving ************************************************************************************ */

static covey_listener *listen_here(struct addresses *a)
{
    static covey_listener *listener;
    static uint32_t life = LIVES_MAX;
    char address[64];

    if (life == soak_me)
        return listener;
    name_address(address, sizeof address, soak_me);
    check_int(covey_listener_open(
                  &listener, .address = address, .key = a->key, .key_size = sizeof a->key),
        ==, 0);
    life = soak_me;
    cv_store_seq(&a->listens[soak_me], 1);
    return listener;
}

static uint32_t life_of_peer(covey_connection *c)
{
    const char *process = strstr(covey_connection_peer(c), "process ");

    check(process != NULL);
    return soak_life_of((pid_t)strtol(process + strlen("process "), NULL, 10));
}

static void check_message(const struct message *m, size_t size, uint32_t life, uint32_t number)
{
    size_t words = offsetof(struct message, words);

    check_int(size, >=, words);
    check_int(m->life, ==, life);
    check_int(m->number, ==, number);
    check(soak_is_filled(m->words, size - words, (uint64_t)life << 32 | number));
}

static void serve(struct addresses *a)
{
    covey_connection *c;
    uint32_t n = 1;
    uint32_t peer;
    void *message;
    size_t size;
    int r = covey_listener_accept(listen_here(a), &c, (double)soak_random(ACCEPT_MS_MAX) / 1000);

    if (r != 0) {
        check_int(r, ==, COVEY_ETIMEDOUT);
        return;
    }
    peer = life_of_peer(c);
    while ((r = covey_connection_receive_alloc(c, &message, &size, COVEY_FOREVER)) == 0) {
        check_message(message, size, peer, n++);
        r = covey_connection_send(c, message, size, COVEY_FOREVER);
        free(message);
        if (r != 0)
            break;
    }
    /* At once: perhaps his time was over; if not, he looks who was killed. */
    if (n == 1 && r == COVEY_EDIED)
        soak_told(&soak_connection);
    else if (r != COVEY_ECLOSED)
        check_ended(r, peer);
    check_int(covey_connection_close(c), ==, 0);
}

/* Connecting ********************************************************************************* */

static uint32_t choose_listener(struct addresses *a)
{
    uint32_t life = cv_load_seq(&run->at_place[soak_random(PLACES)]);

    return life != soak_me && cv_load_seq(&a->listens[life]) ? life : LIVES_MAX;
}

/* False: the connection has ended. */
static bool converse(covey_connection *c, uint32_t other, uint32_t number)
{
    static struct message sent, came;
    size_t words = soak_random(soak_chance(LARGE_ONCE_IN) ? WORDS_MAX : 64);
    size_t size = offsetof(struct message, words) + words * sizeof sent.words[0];
    size_t n = 0;
    int r;

    sent.life = soak_me;
    sent.number = number;
    soak_fill(sent.words, words * sizeof sent.words[0], (uint64_t)soak_me << 32 | number);
    r = covey_connection_send(c, &sent, size, COVEY_FOREVER);
    if (r == 0)
        r = covey_connection_receive(c, &came, sizeof came, &n, COVEY_FOREVER);
    if (r != 0) {
        check_ended(r, other);
        return false;
    }
    check_int(n, ==, size);
    check_message(&came, n, soak_me, number);
    return true;
}

static void call(struct addresses *a)
{
    uint32_t other = choose_listener(a);
    covey_connection *c;
    char address[64];
    int r;

    if (other == LIVES_MAX)
        return;
    name_address(address, sizeof address, other);
    r = covey_connection_open(&c, .address = address, .key = a->key, .key_size = sizeof a->key,
        .timeout_s = (double)(1 + soak_random(CONNECT_MS_MAX)) / 1000);
    if (r == COVEY_ETIMEDOUT)
        return;
    if (r != 0) {
        check_ended(r, other);
        return;
    }
    for (uint32_t n = 1 + (uint32_t)soak_random(MESSAGES_MAX), i = 1; i <= n; i++) {
        if (!converse(c, other, i))
            break;
    }
    check_int(covey_connection_close(c), ==, 0);
}

static void work(void *state)
{
    if (soak_chance(SERVE_ONCE_IN))
        serve(state);
    else
        call(state);
}

static void finish(void *state)
{
    check_int(covey_free(state), ==, 0);
}

const struct scenario soak_connection = {
    "connection", .set_up = set_up, .work = work, .finish = finish, .is_slow = true};
