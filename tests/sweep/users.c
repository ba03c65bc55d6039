/* SPDX-License-Identifier: MIT */
/* Queues that end with their producers: who gets finds the end, whether these leave or die. */
#include "items.h"

#include "msg/queue.h"

enum {
    ADDED = 27,     /* told: the mark of a process */
    LEFT_OVER = 28, /* consumers that have found the end */
};

static void set_up(unsigned producers)
{
    check_int(covey_queue_open(&items.queue, .items = 8, .producers = producers), ==, 0);
    items_begin(ITEM_SMALL, 0);
}

static void set_up_one(void)
{
    set_up(1);
}

static void leave(void)
{
    check_int(covey_queue_leave(items.queue), ==, 0);
}

/* W is a producer, too. */
static void set_up_two(void)
{
    set_up(2);
    check_int(items_world_puts(), ==, 0);
}

/* Everything up to the end. */
static void get_all(void)
{
    int r;

    while ((r = items_get(sweep_patience())) > 0) {
    }
    check(r == COVEY_ECLOSED || sweep_is_fine(r));
    if (r == COVEY_ECLOSED)
        sweep_tell(LEFT_OVER + sweep_rescuer(), 1);
}

/* If it has not ended already. */
static void put_and_leave(void)
{
    int r = items_world_puts();

    check(r == 0 || r == COVEY_ECLOSED);
    leave();
}

/* V was no producer yet: there must be one for the queue to end. */
static bool end_without_victim(void)
{
    if (!sweep_victim_finished())
        put_and_leave();
    return true;
}

static bool end_without_victims(void)
{
    if (!sweep_victim_finished())
        sweep_kill(sweep_fork(put_and_leave));
    leave();
    return true;
}

static bool leave_in_the_world(void)
{
    leave();
    return true;
}

static void done(void)
{
    int r;

    while ((r = items_get(1)) > 0) {
    }
    check_int(r, ==, COVEY_ECLOSED);
    for (unsigned i = 0; i < sweep_rescuers() && !sweep_was_stalled(); i++)
        check(sweep_told(LEFT_OVER + i) || !sweep_rescuer_finished());
    if (sweep_victim_finished() && sweep_told(VICTIM_PUTS) && sweep_rescuer_finished())
        check_int(sweep_told(OF_VICTIM), ==, 1);
    check_int(covey_queue_put(items.queue, "late", 4, 0), ==, COVEY_ECLOSED);
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

OPERATION(queue_come, .setup = set_up_one, .victim = items_victim_puts, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .rescue = get_all, .unblock = end_without_victim, .no_stall = true,
    .verify = done, .proves = "users_dead");

OPERATION(queue_come_second, .setup = set_up_two, .victim = items_victim_puts,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = get_all, .unblock = end_without_victims,
    .no_stall = true, .verify = done, .proves = "users_dead");

OPERATION(queue_leave, .setup = set_up_one, .warm = items_victim_puts, .victim = leave,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = get_all, .no_stall = true, .verify = done,
    .proves = "users_dead");

/* W leaves while V does. */
OPERATION(queue_leave_late, .setup = set_up_two, .warm = items_victim_puts, .victim = leave,
    .rescue = get_all, .unblock = leave_in_the_world, .verify = done, .proves = "users_dead");

/* V adds a process, which dies and has put nothing. */
static pid_t added;

static void join_family(void)
{
    check_int(covey_open(), ==, 0);
    sweep_tell(ADDED, cv_self.mark);
}

static void set_up_added(void)
{
    set_up(1);
    added = sweep_fork(join_family);
}

static void add(void)
{
    check_int(cv_queue_add_producer(items.queue, sweep_told(ADDED)), ==, 0);
}

static bool kill_added(void)
{
    sweep_kill(added);
    return end_without_victim();
}

OPERATION(queue_add_producer, .setup = set_up_added, .victim = add, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .rescue = get_all, .unblock = kill_added, .no_stall = true, .verify = done,
    .proves = "users_dead");

/* V finds the end: nobody else is there to see it. */
static void set_up_left(void)
{
    set_up(1);
    put_and_leave();
}

static void find_end(void)
{
    unsigned char item[ITEM_MAX];
    int r;

    while ((r = covey_queue_get(items.queue, item, sizeof item, NULL, COVEY_FOREVER)) == 0) {
    }
    check_int(r, ==, COVEY_ECLOSED);
}

OPERATION(queue_find_end, .setup = set_up_left, .victim = find_end, .rescue = get_all,
    .verify = done, .proves = "queue_mend");

/* All cells of the queue itself are of producers that have died. */
static void put_in_crowd(void)
{
    check_int(items_put(OF_WORLD, ITEM_SMALL, 0), ==, 0);
}

static void set_up_crowd(void)
{
    set_up(1);
    sweep_gather(put_in_crowd);
}

static bool disperse(void)
{
    sweep_disperse();
    return end_without_victim();
}

static void get_any(void)
{
    unsigned char item[ITEM_MAX];
    int r;

    while ((r = covey_queue_get(items.queue, item, sizeof item, NULL, sweep_patience())) == 0) {
    }
    check(r == COVEY_ECLOSED || sweep_is_fine(r));
    sweep_tell(LEFT_OVER + sweep_rescuer(), r == COVEY_ECLOSED);
    sweep_tell(OF_VICTIM, 1);
}

OPERATION(queue_come_crowd, .setup = set_up_crowd, .victim = items_victim_puts,
    .when = RESCUE_SLEEPS_LATE, .rescue = get_any, .unblock = disperse, .no_stall = true,
    .no_rescue = true, .verify = done, .proves = "users_dead cells_settle cells_dangling");

/* V and another one come, and the cells are of producers that have died. */
static void set_up_dead(void)
{
    set_up_crowd();
    sweep_disperse();
}

static void come(void)
{
    int r = items_put(OF_RESCUER, ITEM_SMALL, sweep_patience());

    check(sweep_is_fine(r));
    sweep_tell(PUT_BY_RESCUERS, r == 0);
}

/* That one has put something, and is there. */
static void check_not_ended(void)
{
    int r;

    while ((r = items_get(0)) > 0) {
    }
    check(r == COVEY_EEMPTY || !sweep_told(PUT_BY_RESCUERS) || !sweep_rescuer_finished());
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

OPERATION(queue_come_again, .setup = set_up_dead, .victim = items_victim_puts, .rescue = come,
    .no_rescue = true, .verify = check_not_ended, .proves = "cells_settle");
