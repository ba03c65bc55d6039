/* SPDX-License-Identifier: MIT */
/*
 * Many items through one queue, from four producers to four consumers, while these are killed at random and
 * others take their places. COVEY_TEST_ITEMS says how many; without it, a million.
 *
 * The items of a place of producers have numbers, one after the other, also when one process follows on
 * another there. Each process notes in shared memory what it is about to do and what it has done, so in
 * the end it is known exactly what must have become of each item:
 *
 *   - it was taken once, and by each consumer in the order of its place;
 *   - or it is what a producer was putting when it was killed, and perhaps had not put;
 *   - or it lies where a consumer was getting it when that was killed.
 */
#include "runner.h"

#include <covey.h>

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLACES = 4, /* of producers, and of consumers */
    BATCH = 64,
    LIVES_MAX = 1 << 13, /* of consumers */
    PLACE_SHIFT = 48,
    CALM_MAX_MS = 8, /* between kills */
};

#define NOTHING  UINT64_MAX
#define TOO_LONG "it takes too long"

struct producer {
    uint64_t begun
        __attribute__((aligned(64))); /* items that it was about to put, with all before */
    uint64_t done;                    /* of these, items that it has put */
};

/* What a consumer was getting, and had not yet noted as taken. */
struct hands {
    uint64_t items[BATCH];
};

struct stream {
    covey_queue *queue;
    uint64_t items; /* of each place */
    struct producer producer[PLACES];
    uint64_t *taken[PLACES]; /* a bit for each item */
    uint64_t *maybe[PLACES]; /* and for those that a dead producer may have put */
    struct hands *hands;     /* of each life of a consumer */
    uint32_t lives __attribute__((aligned(64)));
};

struct part {
    struct stream *stream;
    unsigned place;
    unsigned seed;
};

static bool is_set(const uint64_t *bits, uint64_t i)
{
    return __atomic_load_n(&bits[i / 64], __ATOMIC_RELAXED) >> i % 64 & 1;
}

/* False: it was set before. */
static bool set(uint64_t *bits, uint64_t i)
{
    uint64_t bit = UINT64_C(1) << i % 64;

    return !(__atomic_fetch_or(&bits[i / 64], bit, __ATOMIC_RELAXED) & bit);
}

static void note(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static int produce(void *argument)
{
    struct part *part = argument;
    struct stream *s = part->stream;
    struct producer *me = &s->producer[part->place];
    uint64_t items[BATCH];

    for (uint64_t n = me->done; n < s->items;) {
        uint64_t many = (uint64_t)rand_r(&part->seed) % BATCH + 1;

        if (many > s->items - n)
            many = s->items - n;
        for (uint64_t i = 0; i < many; i++)
            items[i] = (uint64_t)part->place << PLACE_SHIFT | (n + i);
        note(&me->begun, n + many);
        if (many % 4 == 0) {
            for (uint64_t i = 0; i < many; i++)
                check_int(covey_queue_put_value(s->queue, items[i], COVEY_FOREVER), ==, 0);
        } else {
            check_int(
                covey_queue_put_many(s->queue, items, sizeof *items, NULL, many, COVEY_FOREVER), ==,
                many);
        }
        n += many;
        note(&me->done, n);
    }
    return 0;
}

static void take(struct stream *s, uint64_t item, uint64_t *last)
{
    uint64_t place = item >> PLACE_SHIFT;
    uint64_t number = item & ((UINT64_C(1) << PLACE_SHIFT) - 1);

    check_int(place, <, PLACES);
    check_int(number, <, s->items);
    if (number < last[place])
        test_fail(__FILE__, __LINE__, "place %d: %lld came after %lld", (int)place,
            (long long)number, (long long)last[place] - 1);
    last[place] = number + 1;
    if (!set(s->taken[place], number))
        test_fail(__FILE__, __LINE__, "place %d: %lld came twice", (int)place, (long long)number);
}

static int consume(void *argument)
{
    struct part *part = argument;
    struct stream *s = part->stream;
    uint32_t life = __atomic_fetch_add(&s->lives, 1, __ATOMIC_SEQ_CST);
    uint64_t *items = s->hands[life].items;
    uint64_t last[PLACES] = {0};
    long n;

    check_int(life, <, LIVES_MAX);
    for (;;) {
        size_t many = (size_t)rand_r(&part->seed) % BATCH + 1;

        memset(items, 0xff, sizeof s->hands->items);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        n = many % 4
                ? covey_queue_get_many(s->queue, items, sizeof *items, NULL, many, COVEY_FOREVER)
                : covey_queue_get_value(s->queue, items, COVEY_FOREVER) + 1;
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            take(s, items[i], last);
    }
    check_int(covey_error_code(), ==, COVEY_ECLOSED);
    return 0;
}

/* The killer ********************************************************************************* */

struct crew {
    struct stream *stream;
    enum covey_method method;
    unsigned seed;
    covey_process *process[2 * PLACES]; /* NULL: it has done its work */
    unsigned kills;
};

static void start(struct crew *c, unsigned i)
{
    struct part part = {c->stream, i % PLACES, (unsigned)rand_r(&c->seed)};

    check_int(covey_process_start(&c->process[i], i < PLACES ? produce : consume,
                  COVEY_ARGUMENT(part), .method = c->method),
        ==, 0);
}

/* What it may have put is not put again. */
static void note_death(struct stream *s, unsigned place)
{
    struct producer *p = &s->producer[place];

    for (uint64_t n = p->done; n < p->begun; n++)
        (void)set(s->maybe[place], n);
    p->done = p->begun;
}

/* False: it has ended by itself, and well. */
static bool replace(struct crew *c, unsigned i)
{
    int code = 0;

    check_int(covey_process_join(c->process[i], COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(c->process[i], &code), ==, 0);
    check_int(covey_process_close(c->process[i]), ==, 0);
    c->process[i] = NULL;
    if (code == 0)
        return false;
    check_int(code, ==, -SIGKILL);
    if (i < PLACES)
        note_death(c->stream, i);
    start(c, i);
    return true;
}

static void kill_one(struct crew *c)
{
    unsigned i = (unsigned)rand_r(&c->seed) % (2 * PLACES);

    if (!c->process[i])
        return;
    check_int(covey_process_kill(c->process[i]), ==, 0);
    c->kills += replace(c, i);
}

static bool work(struct crew *c, unsigned first)
{
    bool any = false;

    for (unsigned i = first; i < first + PLACES; i++) {
        if (c->process[i] && covey_process_is_alive(c->process[i]) == 0)
            (void)replace(c, i);
        any |= c->process[i] != NULL;
    }
    return any;
}

static uint64_t *bits(uint64_t n)
{
    uint64_t *b = covey_calloc((size_t)(n / 64 + 1), sizeof *b);

    check(b != NULL);
    return b;
}

static struct stream *open_stream(covey_queue *queue, uint64_t items)
{
    struct stream *s = covey_calloc(1, sizeof *s);

    check(s != NULL);
    s->queue = queue;
    s->items = items / PLACES;
    s->hands = covey_calloc(LIVES_MAX, sizeof *s->hands);
    check(s->hands != NULL);
    for (unsigned i = 0; i < PLACES; i++) {
        s->taken[i] = bits(s->items);
        s->maybe[i] = bits(s->items);
    }
    return s;
}

/* Notes the items that were in the hands of those who were killed: they may have got them. */
static void note_hands(struct stream *s)
{
    for (uint32_t life = 0; life < s->lives; life++) {
        for (unsigned i = 0; i < BATCH; i++) {
            uint64_t item = s->hands[life].items[i];

            if (item != NOTHING && item >> PLACE_SHIFT < PLACES)
                (void)set(s->maybe[item >> PLACE_SHIFT], item & ((UINT64_C(1) << PLACE_SHIFT) - 1));
        }
    }
}

static void close_stream(struct crew *c)
{
    struct stream *s = c->stream;
    uint64_t lost = 0;

    note_hands(s);
    for (unsigned place = 0; place < PLACES; place++) {
        for (uint64_t n = 0; n < s->items; n++) {
            if (is_set(s->taken[place], n))
                continue;
            if (!is_set(s->maybe[place], n))
                test_fail(__FILE__, __LINE__, "place %d: %lld is lost", (int)place, (long long)n);
            lost++;
        }
        check_int(covey_free(s->taken[place]), ==, 0);
        check_int(covey_free(s->maybe[place]), ==, 0);
    }
    check_int(lost, <=, (uint64_t)c->kills * BATCH);
    (void)fprintf(stderr, "# %llu items, %u kills; %llu items were with those who were killed\n",
        (unsigned long long)(s->items * PLACES), c->kills, (unsigned long long)lost);
    check_int(covey_free(s->hands), ==, 0);
    check_int(covey_queue_free(s->queue), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static uint64_t items_wanted(void)
{
    const char *text = getenv("COVEY_TEST_ITEMS");

    return text ? strtoull(text, NULL, 10) : 1000 * 1000;
}

static void run(covey_queue *queue, uint64_t items, enum covey_method method)
{
    struct crew c = {.stream = open_stream(queue, items), .method = method, .seed = 1};

    for (unsigned i = 0; i < 2 * PLACES; i++)
        start(&c, i);
    while (work(&c, 0)) {
        test_sleep_ms(rand_r(&c.seed) % (CALM_MAX_MS + 1));
        kill_one(&c);
    }
    check_int(covey_queue_close(queue), ==, 0);
    while (work(&c, PLACES)) {
        test_sleep_ms(rand_r(&c.seed) % (CALM_MAX_MS + 1));
        kill_one(&c);
    }
    close_stream(&c);
}

TEST_METHODS(no_kill_loses_an_item_or_doubles_one, 600, .not_in_valgrind = TOO_LONG)
{
    covey_queue *queue;

    check_int(covey_queue_open(&queue), ==, 0);
    run(queue, method == COVEY_FORK ? items_wanted() : items_wanted() / 10, method);
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

TEST(no_kill_loses_an_item_of_a_queue_that_grows, .deadline_s = 600, .not_in_valgrind = TOO_LONG)
{
    covey_queue *queue;

    check_int(covey_queue_open(&queue, .unbounded = true), ==, 0);
    run(queue, items_wanted() / 10, COVEY_FORK);
}

TEST(no_kill_loses_an_item_of_a_small_queue, .deadline_s = 600, .not_in_valgrind = TOO_LONG)
{
    covey_queue *queue;

    check_int(covey_queue_open(&queue, .items = 10), ==, 0);
    run(queue, items_wanted() / 10, COVEY_FORK);
}
