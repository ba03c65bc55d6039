/* SPDX-License-Identifier: MIT */
/*
 * Blocks of memory, filled with a pattern, that go from hand to hand.
 *
 * They lie in drawers. A worker takes the block out of one, so that it is his: the drawer has his number
 * then. He looks whether it is as it was left, changes it, and puts it back. Before each step that a kill
 * may cut in two he notes which one that is. So in the end it is known of every block whether it must be
 * there, must not be there (its owner is dead), or may be; and there is none besides.
 *
 * Some blocks a worker carries off: they belong to it for the rest of its life, and must go with it.
 */
#include "soak.h"

#include "arena/heap.h"

enum {
    DRAWERS = 24,
    LUGGAGE_MAX = 8,
    LEFT_MAX = 256,
    HUGE_ONCE_IN = 32,
    LARGE_ONCE_IN = 8,
    OF_A_LIFE = 1, /* in a drawer: the number of a life, shifted; no block has an odd address */
};

enum step {
    RESTING,      /* nothing in hand, or nothing that is happening to it */
    ALLOCATING,   /* there may be one block more, of what is asked */
    FILLING,      /* the block is there, its pattern perhaps not */
    FREEING,      /* it may be there */
    REALLOCATING, /* it may be there, and one more, or instead */
    OWNING,       /* it may belong to this life */
    OWNED,        /* it does */
};

struct hand {
    uint32_t step;
    uint64_t drawer; /* and 1 */
    uint64_t block;
    uint64_t asked; /* bytes */
};

struct block {
    uint64_t size; /* all of it */
    uint64_t seed;
    uint64_t fill[];
};

struct drawers {
    uint64_t drawer[DRAWERS];
    struct hand hand[LIVES_MAX];
};

/* The killer's: what was there before the round, and what is left after it. */
struct census {
    unsigned n;
    void *block[LEFT_MAX];
    size_t size[LEFT_MAX];
};

static struct census before;
static struct census left;

static void count(char *block, size_t size, uint32_t owner, void *context)
{
    struct census *c = context;

    if (owner == (uint32_t)CV_OWNER_INTERNAL || c->n == LEFT_MAX)
        return;
    c->block[c->n] = block;
    c->size[c->n++] = size;
}

static void *set_up(void)
{
    struct drawers *d = covey_calloc(1, sizeof *d);

    check(d != NULL);
    before.n = 0;
    cv_heap_each(count, &before);
    return d;
}

static struct block *block_at(uint64_t address)
{
    return (struct block *)(uintptr_t)address;
}

static void step(struct hand *hand, enum step now)
{
    cv_store_seq(&hand->step, (uint32_t)now);
}

static void fill(struct block *b, uint64_t size)
{
    b->size = size;
    b->seed = soak_random(UINT64_MAX);
    soak_fill(b->fill, size - sizeof *b, b->seed);
}

static void check_block(const struct block *b)
{
    if (covey_usable_size(b) < b->size || !soak_is_filled(b->fill, b->size - sizeof *b, b->seed))
        test_fail(__FILE__, __LINE__, "heap: block %p is not as it was left", (const void *)b);
}

static uint64_t random_size(void)
{
    uint64_t most = soak_chance(HUGE_ONCE_IN) ? 200000 : soak_chance(LARGE_ONCE_IN) ? 30000 : 600;

    return sizeof(struct block) + soak_random(most) / 8 * 8;
}

static void refill(struct hand *hand)
{
    step(hand, FILLING);
    fill(block_at(hand->block), hand->asked);
    step(hand, RESTING);
}

static void allocate(struct hand *hand)
{
    hand->asked = random_size();
    step(hand, ALLOCATING);
    cv_store_seq(&hand->block, (uintptr_t)covey_alloc(hand->asked));
    check(hand->block != 0);
    refill(hand);
}

static void discard(struct hand *hand)
{
    step(hand, FREEING);
    check_int(covey_free(block_at(hand->block)), ==, 0);
    cv_store_seq(&hand->block, 0);
    step(hand, RESTING);
}

static void reallocate(struct hand *hand)
{
    struct block *b = block_at(hand->block);
    uint64_t size = b->size;
    uint64_t both;

    hand->asked = random_size();
    step(hand, REALLOCATING);
    b = covey_realloc(b, hand->asked);
    check(b != NULL);
    cv_store_seq(&hand->block, (uintptr_t)b);
    step(hand, FILLING);
    both = size < hand->asked ? size : hand->asked;
    check_int(b->size, ==, size);
    check(soak_is_filled(b->fill, both - sizeof *b, b->seed));
    refill(hand);
}

static void own(struct hand *hand)
{
    struct block *b = block_at(hand->block);

    step(hand, OWNING);
    check_int(covey_own(b), ==, 0);
    step(hand, OWNED);
    soak_dawdle();
    check_block(b);
    check_int(covey_owner(b), ==, run->life[soak_me].pid);
    step(hand, OWNING);
    check_int(covey_share(b), ==, 0);
    step(hand, RESTING);
}

/* What this worker has carried off. */
static struct block *luggage[LUGGAGE_MAX];

static void check_luggage(unsigned i)
{
    check_block(luggage[i]);
    check_int(covey_owner(luggage[i]), ==, run->life[soak_me].pid);
}

/* In exchange for what he has carried so far. */
static void carry_off(struct hand *hand)
{
    unsigned i = (unsigned)soak_random(LUGGAGE_MAX);

    if (luggage[i]) {
        check_luggage(i);
        check_int(covey_free(luggage[i]), ==, 0);
    }
    luggage[i] = block_at(hand->block);
    step(hand, OWNING);
    check_int(covey_own(luggage[i]), ==, 0);
    step(hand, OWNED);
    check_luggage(i);
    cv_store_seq(&hand->block, 0);
    step(hand, RESTING);
}

static void change(struct hand *hand)
{
    void (*const changes[])(struct hand *) = {discard, reallocate, own, carry_off, refill};

    if (!hand->block) {
        allocate(hand);
        return;
    }
    check_block(block_at(hand->block));
    hand->asked = block_at(hand->block)->size;
    changes[soak_random(sizeof changes / sizeof *changes)](hand);
}

static void work(void *state)
{
    struct drawers *d = state;
    struct hand *hand = &d->hand[soak_me];
    uint64_t i = soak_random(DRAWERS);
    uint64_t block = cv_load_seq(&d->drawer[i]);

    if (block & OF_A_LIFE)
        return;
    step(hand, RESTING);
    cv_store_seq(&hand->block, block);
    cv_store_seq(&hand->drawer, i + 1);
    if (!cv_cas64(&d->drawer[i], block, (uint64_t)soak_me << 1 | OF_A_LIFE))
        return;
    change(hand);
    cv_store_seq(&d->drawer[i], hand->block);
}

/* The end ************************************************************************************ */

static void free_whole(uint64_t block)
{
    if (!block)
        return;
    check_block(block_at(block));
    check_int(covey_free(block_at(block)), ==, 0);
}

/* What is certain of the block of one who has died with it in his hand. */
static void empty_hand(const struct hand *hand)
{
    if (hand->step == RESTING)
        free_whole(hand->block);
    else if (hand->step == FILLING)
        check_int(covey_free(block_at(hand->block)), ==, 0);
}

/* A block is left: it is one that somebody was allocating or giving back when he was killed. */
static bool explain(struct hand *hand, const void *block, size_t size)
{
    bool is_new = hand->step == ALLOCATING || hand->step == REALLOCATING;
    bool is_old = hand->step == FREEING || hand->step == REALLOCATING || hand->step == OWNING;

    if (is_old && hand->block == (uintptr_t)block) {
        hand->block = 0;
        return true;
    }
    if (is_new && hand->asked && hand->asked <= size) {
        hand->asked = 0;
        return true;
    }
    return false;
}

static bool was_there_before(const void *block)
{
    for (unsigned i = 0; i < before.n; i++) {
        if (before.block[i] == block)
            return true;
    }
    return false;
}

/* The hand of a dead one, if that is what the drawer says. */
static struct hand *hand_in(struct drawers *d, unsigned i)
{
    return d->drawer[i] & OF_A_LIFE ? &d->hand[d->drawer[i] >> 1] : NULL;
}

static void explain_left(struct drawers *d, const void *block, size_t size)
{
    for (unsigned i = 0; i < DRAWERS; i++) {
        struct hand *hand = hand_in(d, i);

        if (hand && explain(hand, block, size))
            return;
    }
    test_fail(__FILE__, __LINE__, "block %p of %zu bytes is left, of pid %d", block, size,
        (int)covey_owner(block));
}

/* After all other scenarios: what is left is the heap's. */
static void finish(void *state)
{
    struct drawers *d = state;

    for (unsigned i = 0; i < DRAWERS; i++) {
        struct hand *hand = hand_in(d, i);

        if (!hand) {
            free_whole(d->drawer[i]);
            continue;
        }
        check(soak_is_doomed((uint32_t)(d->drawer[i] >> 1)));
        check_int(hand->drawer, ==, i + 1);
        soak_told(&soak_heap);
        empty_hand(hand);
    }
    left.n = 0;
    cv_heap_each(count, &left);
    for (unsigned i = 0; i < left.n; i++) {
        if (was_there_before(left.block[i]))
            continue;
        explain_left(d, left.block[i], left.size[i]);
        check_int(covey_free(left.block[i]), ==, 0);
    }
    check_int(covey_free(d), ==, 0);
}

const struct scenario soak_heap = {"heap", .set_up = set_up, .work = work, .finish = finish};
