/* SPDX-License-Identifier: MIT */
/*
 * An event: some wait for it, others set it and clear it again.
 *
 * Each setting has a number. One who clears the event while no setting is under way notes how many there
 * were before; as long as there are no more, nobody who comes may get past.
 */
#include "tally.h"

enum {
    WAIT_TWICE_IN = 3,
};

struct flag {
    covey_event event;
    struct tally sets;
    uint64_t begun;   /* settings */
    uint64_t cleared; /* after so many, and 1; 0: not for certain */
};

static void *set_up(void)
{
    struct flag *flag = covey_calloc(1, sizeof *flag);

    check(flag != NULL);
    check_int(covey_event_init(&flag->event), ==, 0);
    return flag;
}

static void set(struct flag *flag)
{
    tally_begin(&flag->sets);
    (void)cv_fetch_add(&flag->begun, 1);
    check_int(covey_event_set(&flag->event), ==, 0);
    tally_end(&flag->sets);
}

/* Of those who may be alive; the killer sets it only when nobody clears it. */
static bool is_any_setting(struct flag *flag)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (tally_is_busy(&flag->sets, cv_load_seq(&run->at_place[i])))
            return true;
    }
    return false;
}

static void clear(struct flag *flag)
{
    uint64_t begun = cv_load_seq(&flag->begun);
    bool sure = !cv_load_seq(&run->closing) && !is_any_setting(flag);

    check_int(covey_event_clear(&flag->event), ==, 0);
    if (sure)
        cv_store_seq(&flag->cleared, begun + 1);
}

static void await(struct flag *flag)
{
    uint64_t cleared = cv_load_seq(&flag->cleared);

    check_int(covey_event_wait(&flag->event, COVEY_FOREVER), ==, 0);
    if (cleared && cleared == cv_load_seq(&flag->begun) + 1)
        test_fail(__FILE__, __LINE__, "event: it was cleared, not set again, and let me pass");
}

static void work(void *state)
{
    struct flag *flag = state;

    if (soak_random(3) < WAIT_TWICE_IN - 1) {
        await(flag);
        return;
    }
    set(flag);
    if (soak_chance(2))
        soak_dawdle();
    clear(flag);
}

static void give(void *state)
{
    struct flag *flag = state;

    if (!covey_event_is_set(&flag->event))
        set(flag);
}

static void finish(void *state)
{
    struct flag *flag = state;

    check_int(covey_event_set(&flag->event), ==, 0);
    check_int(covey_event_wait(&flag->event, 0), ==, 0);
    check_int(covey_event_clear(&flag->event), ==, 0);
    check_int(covey_event_wait(&flag->event, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_event_destroy(&flag->event), ==, 0);
    check_int(covey_free(flag), ==, 0);
}

const struct scenario soak_event = {
    "event", .set_up = set_up, .work = work, .give = give, .finish = finish};
