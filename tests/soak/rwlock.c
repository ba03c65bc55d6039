/* SPDX-License-Identifier: MIT */
/* The reader/writer lock. See guard.h; a reader who is told of a death has to mend. */
#include "guard.h"

enum {
    WRITE_ONCE_IN = 2,
    TRY_ONCE_IN = 8,
};

struct room {
    covey_rwlock lock;
    struct guard guard;
};

static void *set_up(void)
{
    struct room *room = covey_calloc(1, sizeof *room);

    check(room != NULL);
    check_int(covey_rwlock_init(&room->lock), ==, 0);
    return room;
}

static void write(struct room *room, double timeout_s)
{
    struct guard *g = &room->guard;
    int r;

    guard_approach(g);
    r = covey_rwlock_acquire_write(&room->lock, timeout_s);
    if (r != COVEY_ETIMEDOUT || timeout_s == COVEY_FOREVER) {
        guard_enter(g, r, &soak_rwlock);
        guard_change(g);
        guard_leave(g);
        check_int(covey_rwlock_release(&room->lock), ==, 0);
    }
    guard_depart(g);
}

static void read(struct room *room, double timeout_s)
{
    int r;
    bool whole;

    r = covey_rwlock_acquire_read(&room->lock, timeout_s);
    if (r == COVEY_ETIMEDOUT && timeout_s != COVEY_FOREVER)
        return;
    whole = guard_read(&room->guard, r, &soak_rwlock);
    check_int(covey_rwlock_release(&room->lock), ==, 0);
    if (!whole)
        write(room, COVEY_FOREVER);
}

static void work(void *state)
{
    double timeout_s = soak_chance(TRY_ONCE_IN) ? (double)soak_random(3) / 1000 : COVEY_FOREVER;

    if (soak_chance(WRITE_ONCE_IN))
        write(state, timeout_s);
    else
        read(state, timeout_s);
}

static void finish(void *state)
{
    struct room *room = state;

    write(room, COVEY_FOREVER);
    read(room, COVEY_FOREVER);
    check_int(covey_rwlock_release(&room->lock), ==, COVEY_ENOTHELD);
    check_int(covey_rwlock_destroy(&room->lock), ==, 0);
    check_int(covey_free(room), ==, 0);
}

const struct scenario soak_rwlock = {"rwlock", .set_up = set_up, .work = work, .finish = finish};
