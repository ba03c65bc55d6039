/* SPDX-License-Identifier: MIT */
/* An array of counters that all raise: in the end each shows what was added, see tally.h. */
#include "tally.h"

enum {
    COUNTERS = 4,
    AT_ONCE = 32,
};

struct counters {
    uint64_t *counter; /* an array */
    struct tally added[COUNTERS];
};

static void *set_up(void)
{
    struct counters *c = covey_calloc(1, sizeof *c);

    check(c != NULL);
    c->counter = covey_array(uint64_t, COUNTERS);
    check(c->counter != NULL);
    return c;
}

static void work(void *state)
{
    struct counters *c = state;

    for (uint64_t n = soak_random(AT_ONCE); n > 0; n--) {
        uint64_t i = soak_random(COUNTERS);

        tally_begin(&c->added[i]);
        (void)covey_fetch_add(&c->counter[i], 1);
        tally_end(&c->added[i]);
    }
    check_int(covey_array_length(c->counter), ==, COUNTERS);
}

static void finish(void *state)
{
    struct counters *c = state;

    for (unsigned i = 0; i < COUNTERS; i++) {
        check_int(c->counter[i], >=, tally_least(&c->added[i]));
        check_int(c->counter[i], <=, tally_least(&c->added[i]) + tally_doubts(&c->added[i]));
    }
    check_int(covey_array_free(c->counter), ==, 0);
    check_int(covey_free(c), ==, 0);
}

const struct scenario soak_array = {"array", .set_up = set_up, .work = work, .finish = finish};
