/* SPDX-License-Identifier: MIT */
/*
 * Pipes whose ends go from hand to hand, by two markets: a queue, and a pipe of which each worker holds both
 * ends. Who gets an end sends and receives for a while, and puts it back; who finds the end of the pipe closes
 * his, and opens another one. Some converse with a child of theirs.
 *
 * An end has one holder, who notes it, or is on its way. So it is known:
 *
 *   - nobody finds that a pipe has ended while its other end is on its way, or held by one who lives;
 *   - no end is lost but with one who was killed holding it, or getting one;
 *   - a message is taken once, and in its order; it is lost only with the end for which it was, or in the
 *     hands of one who was killed in receiving.
 */
#include "soak.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PIPES_MAX = 1 << 15, /* in a round */
    PIPES_SPARE = 1 << 8,
    PIPES_WANTED = 6,
    MESSAGES_MAX = 1 << 18,
    MESSAGES_SPARE = 1 << 10,
    FILL_WORDS_MAX = 8,
    BYTES = 1024,
    TALK_MAX = 8,
    CHILD_ONCE_IN = 16,
    FOREVER_ONCE_IN = 16,

    /* What is known of an end. */
    CLOSED = 1,    /* by its holder */
    SAW_END = 2,   /* nobody holds the other one */
    WITH_DEAD = 4, /* its holder was killed */
    IS_THERE = 8,  /* after the round */

    /* What is known of a message. */
    IS_SENT = 1,
    IS_TAKEN = 2,
    IN_DEAD_HANDS = 4,
};

struct message {
    uint32_t number; /* 0: none */
    uint32_t end;    /* for which it is */
    uint64_t fill[FILL_WORDS_MAX];
};

struct notes {
    uint32_t held[2]; /* ends, and 1; 0: none. Two while a pipe is being opened */
    uint32_t getting; /* an end into this: */
    covey_pipe *got;
    uint32_t receiving; /* a message into this: */
    struct message message;
    uint32_t child; /* its pid */
    uint32_t child_may_end;
};

struct pipes {
    covey_queue *market[1];
    covey_pipe *market_end[2];
    uint32_t next_pipe;
    uint32_t next_message;
    covey_pipe *end[2 * PIPES_MAX];
    uint8_t known[2 * PIPES_MAX];
    uint32_t last[2 * PIPES_MAX]; /* number that was received there */
    uint8_t message[MESSAGES_MAX];
    uint32_t message_end[MESSAGES_MAX];
    struct notes of[LIVES_MAX + 1];
};

static void *set_up(void)
{
    struct pipes *p = covey_calloc(1, sizeof *p);

    check(p != NULL);
    check_int(covey_queue_open(&p->market[0]), ==, 0);
    check_int(covey_pipe_open(&p->market_end[0], &p->market_end[1]), ==, 0);
    check_int(covey_pipe_hold(p->market_end[0]), ==, 0);
    check_int(covey_pipe_hold(p->market_end[1]), ==, 0);
    return p;
}

static uint8_t know(struct pipes *p, uint32_t end, unsigned what)
{
    return __atomic_fetch_or(&p->known[end], (uint8_t)what, __ATOMIC_SEQ_CST);
}

/* The markets ******************************************************************************** */

static covey_queue *into(struct pipes *p)
{
    return soak_chance(2) ? p->market[0] : covey_pipe_outgoing(p->market_end[0]);
}

static covey_queue *out_of(struct pipes *p)
{
    return soak_chance(2) ? p->market[0] : covey_pipe_incoming(p->market_end[1]);
}

static void offer(struct pipes *p, unsigned hand)
{
    struct notes *me = &p->of[soak_me];
    covey_pipe *end = p->end[me->held[hand] - 1];

    check_int(covey_pipe_put(into(p), end, COVEY_FOREVER), ==, 0);
    cv_store_seq(&me->held[hand], 0);
    check_int(covey_pipe_close(end), ==, 0);
}

static void open_one(struct pipes *p)
{
    struct notes *me = &p->of[soak_me];
    uint32_t first = 2 * cv_fetch_add(&p->next_pipe, 1);

    check_int(first, <, 2 * PIPES_MAX);
    cv_store_seq(&me->held[0], first + 1);
    cv_store_seq(&me->held[1], first + 2);
    check_int(covey_pipe_open(&p->end[first], &p->end[first + 1], .bytes = BYTES), ==, 0);
    offer(p, 0);
    offer(p, 1);
}

/* Addresses are used again, but not while somebody holds an end. */
static uint32_t number_of(struct pipes *p, const covey_pipe *end)
{
    for (uint32_t i = 2 * cv_load_seq(&p->next_pipe); i-- > 0;) {
        if (p->end[i] == end)
            return i;
    }
    test_fail(__FILE__, __LINE__, "pipe: there is no end %p", (const void *)end);
}

/* False: there was none. */
static bool obtain(struct pipes *p, covey_queue *market, double timeout_s)
{
    struct notes *me = &p->of[soak_me];
    uint32_t end;
    int r;

    cv_store_seq((uint64_t *)(void *)&me->got, 0);
    cv_store_seq(&me->getting, 1);
    r = covey_pipe_get(market, &me->got, timeout_s);
    if (r == 0) {
        end = number_of(p, me->got);
        cv_store_seq(&me->held[0], end + 1);
        if (cv_load_seq(&p->known[end ^ 1]) & SAW_END)
            test_fail(__FILE__, __LINE__, "pipe: it had ended while an end of it was on its way");
        check(!(cv_load_seq(&p->known[end]) & CLOSED));
    } else if (timeout_s != COVEY_FOREVER) {
        check_int(r, ==, COVEY_EEMPTY);
    } else {
        check_int(r, ==, 0);
    }
    cv_store_seq(&me->getting, 0);
    return r == 0;
}

/* Talking ************************************************************************************ */

/* Nobody who lives may hold the other end. */
static void check_ended(struct pipes *p, uint32_t end)
{
    for (uint32_t i = 0; i < cv_load_seq(&run->lives); i++) {
        struct notes *n = &p->of[i];
        uint32_t other = (end ^ 1) + 1;

        if ((cv_load_seq(&n->held[0]) == other || cv_load_seq(&n->held[1]) == other) &&
            !soak_is_doomed(i))
            test_fail(__FILE__, __LINE__, "pipe: it has ended, but process %d holds the other end",
                (int)run->life[i].pid);
    }
    (void)know(p, end, SAW_END);
    if (!(cv_load_seq(&p->known[end ^ 1]) & CLOSED))
        soak_told(&soak_pipe);
}

/* False: the pipe has ended. */
static bool talk(struct pipes *p, uint32_t end)
{
    size_t words = soak_random(FILL_WORDS_MAX + 1);
    size_t size = offsetof(struct message, fill) + words * sizeof(uint64_t);
    struct message m = {.number = cv_fetch_add(&p->next_message, 1) + 1, .end = end ^ 1};
    int r;

    check_int(m.number, <, MESSAGES_MAX);
    soak_fill(m.fill, words * sizeof(uint64_t), m.number);
    p->message_end[m.number] = m.end;
    r = covey_pipe_send(p->end[end], &m, size, 0);
    if (r == 0)
        (void)__atomic_fetch_or(&p->message[m.number], (uint8_t)IS_SENT, __ATOMIC_SEQ_CST);
    else
        check(r == COVEY_EFULL || r == COVEY_ECLOSED);
    return r != COVEY_ECLOSED;
}

static bool is_whole(const struct message *m, size_t size)
{
    return m->number > 0 && m->number < MESSAGES_MAX && size >= offsetof(struct message, fill) &&
           soak_is_filled(m->fill, size - offsetof(struct message, fill), m->number);
}

/* False: the pipe has ended. */
static bool listen(struct pipes *p, uint32_t end, double timeout_s)
{
    struct notes *me = &p->of[soak_me];
    size_t size = 0;
    int r;

    memset(&me->message, 0, sizeof me->message);
    cv_store_seq(&me->receiving, 1);
    r = covey_pipe_receive(p->end[end], &me->message, sizeof me->message, &size, timeout_s);
    if (r == 0) {
        uint32_t number = me->message.number;

        if (!is_whole(&me->message, size) || me->message.end != end)
            test_fail(__FILE__, __LINE__, "pipe: message %u of %zu bytes is torn", number, size);
        check_int(number, >, p->last[end]);
        p->last[end] = number;
        check_int(
            __atomic_fetch_or(&p->message[number], (uint8_t)IS_TAKEN, __ATOMIC_SEQ_CST) & IS_TAKEN,
            ==, 0);
    } else if (r != COVEY_ECLOSED) {
        check_int(r, ==, COVEY_EEMPTY);
        check(timeout_s != COVEY_FOREVER);
    }
    cv_store_seq(&me->receiving, 0);
    return r != COVEY_ECLOSED;
}

static void converse(struct pipes *p)
{
    struct notes *me = &p->of[soak_me];
    uint32_t end = me->held[0] - 1;

    for (uint64_t n = 1 + soak_random(TALK_MAX); n > 0; n--) {
        if (soak_chance(2) ? talk(p, end) : listen(p, end, (double)soak_random(2) / 1000))
            continue;
        while (listen(p, end, 0)) { /* what was sent before */
        }
        check_ended(p, end);
        (void)know(p, end, CLOSED);
        cv_store_seq(&me->held[0], 0);
        check_int(covey_pipe_close(p->end[end]), ==, 0);
        return;
    }
    if (soak_chance(2))
        soak_dawdle();
    offer(p, 0);
}

/* A child of one's own *********************************************************************** */

struct errand {
    covey_pipe *end;
    struct notes *parent;
    uint32_t life;
};

/* Sends back what comes, until its parent holds the other end no more. */
static int echo(void *argument)
{
    const struct errand *e = argument;
    uint64_t word;
    int r;

    while ((r = covey_pipe_receive(e->end, &word, sizeof word, NULL, COVEY_FOREVER)) == 0) {
        r = covey_pipe_send(e->end, &word, sizeof word, COVEY_FOREVER);
        if (r != 0)
            break;
    }
    check_int(r, ==, COVEY_ECLOSED);
    check(cv_load_seq(&e->parent->child_may_end) || soak_is_doomed(e->life));
    return 0;
}

/* By an argument, or by a queue. */
static void converse_with_child(struct pipes *p)
{
    struct notes *me = &p->of[soak_me];
    struct errand errand = {.parent = me, .life = soak_me};
    covey_process *child;
    covey_pipe *here;
    uint64_t got = 0;
    int code;
    int r = 0;

    cv_store_seq(&me->child_may_end, 0);
    check_int(covey_pipe_open(&here, &errand.end, .bytes = BYTES), ==, 0);
    check_int(
        covey_process_start(&child, echo, COVEY_ARGUMENT(errand), .method = COVEY_FORK), ==, 0);
    cv_store_seq(&me->child, (uint32_t)covey_process_pid(child));
    check_int(covey_pipe_close(errand.end), ==, 0);
    for (uint64_t n = soak_random(TALK_MAX); n > 0 && r == 0; n--) {
        r = covey_pipe_send(here, &n, sizeof n, COVEY_FOREVER);
        if (r == 0)
            r = covey_pipe_receive(here, &got, sizeof got, NULL, COVEY_FOREVER);
        if (r == 0)
            check_int(got, ==, n);
    }
    if (r != 0)
        check_int(r, ==, COVEY_ECLOSED);
    check(r == 0 || soak_was_killed((pid_t)me->child));
    cv_store_seq(&me->child_may_end, 1);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_process_join(child, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(child, &code), ==, 0);
    check(code == 0 || soak_was_killed((pid_t)me->child));
    check_int(covey_process_close(child), ==, 0);
    cv_store_seq(&me->child, 0);
}

static pid_t helper(void *state, uint32_t life)
{
    return (pid_t)cv_load_seq(&((struct pipes *)state)->of[life].child);
}

/* All together ******************************************************************************* */

static bool has_room(struct pipes *p)
{
    return cv_load_seq(&p->next_pipe) < PIPES_MAX - PIPES_SPARE &&
           cv_load_seq(&p->next_message) < MESSAGES_MAX - MESSAGES_SPARE;
}

static long on_offer(struct pipes *p)
{
    return covey_queue_size(p->market[0]) + covey_queue_size(covey_pipe_incoming(p->market_end[1]));
}

static void work(void *state)
{
    struct pipes *p = state;
    double timeout_s = soak_chance(FOREVER_ONCE_IN) ? COVEY_FOREVER : 0;

    if (!has_room(p))
        return;
    check_int(covey_pipe_hold(p->market_end[0]), ==, 0);
    check_int(covey_pipe_hold(p->market_end[1]), ==, 0);
    if (soak_chance(CHILD_ONCE_IN))
        converse_with_child(p);
    else if (on_offer(p) < PIPES_WANTED)
        open_one(p);
    else if (obtain(p, out_of(p), timeout_s))
        converse(p);
}

static void give(void *state)
{
    struct pipes *p = state;

    if (covey_queue_is_empty(p->market[0]) == 1 ||
        covey_queue_is_empty(covey_pipe_incoming(p->market_end[1])) == 1)
        open_one(p);
}

/* After the round ***************************************************************************** */

/* What the dead had in their hands. Returns how many may have had an end and not known which. */
static unsigned look_at_dead(struct pipes *p)
{
    unsigned doubts = 0;

    for (uint32_t i = 0; i < run->lives; i++) {
        struct notes *n = &p->of[i];

        for (unsigned k = 0; k < 2; k++) {
            if (n->held[k])
                (void)know(p, n->held[k] - 1, WITH_DEAD);
        }
        if (!soak_is_doomed(i))
            continue;
        doubts += n->getting && !n->held[0]; /* what address it had got may be another end's now */
        for (size_t size = sizeof n->message; n->receiving; size -= sizeof(uint64_t)) {
            if (size < offsetof(struct message, fill))
                break;
            if (is_whole(&n->message, size))
                p->message[n->message.number] |= IN_DEAD_HANDS;
        }
    }
    return doubts;
}

static void drain(struct pipes *p, covey_queue *market)
{
    struct notes *me = &p->of[LIVES_MAX];

    while (obtain(p, market, 0)) {
        check_int(know(p, me->held[0] - 1, IS_THERE) & IS_THERE, ==, 0);
        cv_store_seq(&me->held[0], 0);
    }
}

/* The other one is there, too; or it ends, after all messages. */
static void finish_end(struct pipes *p, uint32_t end)
{
    bool goes_on = true;

    while (goes_on && covey_pipe_poll(p->end[end], 0) == 1)
        goes_on = listen(p, end, 0);
    check_int(goes_on, ==, (p->known[end ^ 1] & IS_THERE) != 0);
}

static void check_end(const struct pipes *p, uint32_t end, unsigned *lost)
{
    if (!(p->known[end] & (IS_THERE | CLOSED | WITH_DEAD)))
        ++*lost;
    check(!(p->known[end] & IS_THERE) || !(p->known[end ^ 1] & SAW_END));
}

static void finish(void *state)
{
    struct pipes *p = state;
    unsigned doubts = look_at_dead(p);
    unsigned lost = 0;
    uint32_t n = 2 * p->next_pipe;

    drain(p, p->market[0]);
    drain(p, covey_pipe_incoming(p->market_end[1]));
    for (uint32_t i = 0; i < n; i++) {
        if (p->known[i] & IS_THERE)
            finish_end(p, i);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (p->known[i] & IS_THERE)
            check_int(covey_pipe_close(p->end[i]), ==, 0);
    }
    for (uint32_t i = 0; i < n; i++)
        check_end(p, i, &lost);
    if (lost > doubts)
        test_fail(__FILE__, __LINE__, "pipe: %u ends are lost, of which %u may be", lost, doubts);
    for (uint32_t i = 1; i <= p->next_message && i < MESSAGES_MAX; i++) {
        if (p->message[i] == IS_SENT && (p->known[p->message_end[i]] & IS_THERE))
            test_fail(__FILE__, __LINE__, "pipe: message %u was sent and is lost", i);
    }
    check_int(covey_queue_free(p->market[0]), ==, 0);
    check_int(covey_pipe_close(p->market_end[0]), ==, 0);
    check_int(covey_pipe_close(p->market_end[1]), ==, 0);
    check_int(covey_free(p), ==, 0);
}

const struct scenario soak_pipe = {
    "pipe", .set_up = set_up, .work = work, .give = give, .finish = finish, .helper = helper};
