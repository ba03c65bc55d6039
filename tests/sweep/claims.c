/* SPDX-License-Identifier: MIT */
/*
 * Joinable queues: whoever has got an item has it until it is done. Of a dead process's the others get
 * it again, or nobody does and it is lost; either way the queue is joined in the end, and has room again.
 */
#include "items.h"

#include "msg/queue.h"
#include "os/clock.h"

#include <string.h>

enum {
    NUMBER_MAX = 3,
    QUARTER = 255, /* of the first segment of a queue for eight items: all but one byte */
    IN_SECOND = 7, /* so many of these are in one twice as large */
    STOPPED = PUT_BY_RESCUERS + 1, /* told: the mark of the process that is stopped */
};

static bool redelivers;

static void open_queue(bool redeliver, size_t size, unsigned n)
{
    redelivers = redeliver;
    check_int(covey_queue_open(
                  &items.queue, .items = NUMBER_MAX, .joinable = true, .redeliver = redeliver),
        ==, 0);
    items_begin(size, n);
    items.any_order = true;
}

static void set_up_redelivered(void)
{
    open_queue(true, ITEM_SMALL, 2);
}

static void set_up_lost(void)
{
    open_queue(false, ITEM_SMALL, 2);
}

static void set_up_block(void)
{
    open_queue(true, ITEM_BLOCK, 2);
    items.size = ITEM_SMALL;
}

/* Told again when it is got again. */
static int get_again(double timeout_s)
{
    unsigned char item[ITEM_MAX];
    size_t size = 0;
    int r = covey_queue_get(items.queue, item, sizeof item, &size, timeout_s);

    if (r != 0)
        return r;
    r = items_read(item, size);
    sweep_tell((unsigned)r, 1);
    return r;
}

/* What V has got it tells before it is done. */
static void note(const void *item, size_t size)
{
    memcpy(items.buffer, item, size);
    sweep_tell((unsigned)items_read(items.buffer, size), 1);
}

static void get(void)
{
    check(get_again(COVEY_FOREVER) > 0);
}

static void finish(void)
{
    check_int(covey_queue_task_done(items.queue), ==, 0);
}

static void get_and_finish(void)
{
    get();
    finish();
}

/* All that is there, each done at once. */
static void finish_all(void)
{
    int r;

    while ((r = get_again(0)) > 0)
        finish();
    check(r == COVEY_EEMPTY || r == COVEY_ECLOSED);
}

/* V, if it was stopped, shall find one, too. */
static void work(void)
{
    finish_all();
    if (sweep_was_stalled())
        check(sweep_is_fine(items_put(OF_RESCUER, items.size, sweep_patience())));
}

static void check_joined(void)
{
    int r;

    finish_all();
    r = covey_queue_join(items.queue, COVEY_FOREVER);
    check(r == 0 || (!redelivers && r == COVEY_EOWNERDEAD));
    check_int(covey_queue_join(items.queue, 0), ==, 0);
    check_int(covey_queue_size(items.queue), ==, 0);
}

/* Every item was got; there is room for as many as at first. */
static void done(void)
{
    check_joined();
    for (unsigned i = 1; i <= items.first && redelivers; i++)
        check_int(sweep_told(i), ==, 1);
    for (int i = 0; i < NUMBER_MAX; i++)
        check_int(items_world_puts(), ==, 0);
    finish_all();
    check_int(covey_queue_join(items.queue, 0), ==, 0);
    check_int(covey_queue_close(items.queue), ==, 0);
    check_int(get_again(0), ==, COVEY_ECLOSED);
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

OPERATION(queue_claim, .setup = set_up_redelivered, .victim = get_and_finish, .rescue = work,
    .verify = done, .proves = "queue_claims");

/* One who dies while it counts V's death leaves that to another: it counts once, and the item is got again. */
static void set_up_limited(void)
{
    redelivers = true;
    check_int(
        covey_queue_open(&items.queue, .items = NUMBER_MAX, .redeliver = true, .deliveries = 2), ==,
        0);
    items_begin(ITEM_SMALL, 2);
    items.any_order = true;
}

static void look(void)
{
    int r = covey_queue_join(items.queue, 0);

    check(r == 0 || r == COVEY_ETIMEDOUT);
}

OPERATION(queue_claim_limited, .setup = set_up_limited, .victim = get_and_finish, .rescue = look,
    .verify = done, .proves = "queue_claims");

OPERATION(queue_claim_lost, .setup = set_up_lost, .victim = get_and_finish, .rescue = work,
    .verify = done, .proves = "queue_claims");

OPERATION(queue_claim_block, .setup = set_up_block, .victim = get_and_finish, .rescue = work,
    .verify = done, .proves = "queue_claims queue_outgoing");

static void get_two(void)
{
    get();
    get();
    finish();
    finish();
}

static void give_more(void)
{
    if (covey_queue_size(items.queue) == 0)
        check_int(items_world_puts(), ==, 0);
}

OPERATION(queue_claim_two, .setup = set_up_redelivered, .victim = get_two, .rescue = work,
    .after = give_more, .verify = done, .proves = "queue_claims");

/* In place. */
static void peek_and_release(void)
{
    const void *item;
    size_t size = 0;

    check_int(covey_queue_peek(items.queue, &item, &size, COVEY_FOREVER), ==, 0);
    note(item, size);
    check_int(covey_queue_release(items.queue, item), ==, 0);
}

OPERATION(queue_claim_peek, .setup = set_up_block, .victim = peek_and_release, .rescue = work,
    .verify = done, .proves = "queue_claims");

static void peek_and_unpeek(void)
{
    const void *item;

    check_int(covey_queue_peek(items.queue, &item, NULL, COVEY_FOREVER), ==, 0);
    check_int(covey_queue_unpeek(items.queue, item), ==, 0);
}

OPERATION(queue_claim_unpeek, .setup = set_up_redelivered, .victim = peek_and_unpeek,
    .rescue = work, .verify = done, .proves = "queue_claims");

/* The first item is another's, who lives: V passes it over, and has the second one. */
static pid_t holder;

static void hold_one(void)
{
    check_int(get_again(0), ==, 1);
}

static void set_up_passed(void)
{
    open_queue(true, ITEM_SMALL, 3);
    holder = sweep_fork(hold_one);
}

static void work_beside(void)
{
    int r = get_again(0);

    for (; r > 0; r = get_again(0)) {
        check_int(r, !=, 1);
        finish();
    }
    check(r == COVEY_EEMPTY || sweep_is_fine(r));
    if (sweep_was_stalled())
        check(sweep_is_fine(items_put(OF_RESCUER, items.size, sweep_patience())));
}

static void check_passed(void)
{
    int r;

    while ((r = get_again(0)) > 0)
        finish();
    check_int(r, ==, COVEY_EEMPTY);
    check_int(covey_queue_join(items.queue, 0), ==, COVEY_ETIMEDOUT);
    sweep_kill(holder);
    done();
}

OPERATION(queue_claim_passed, .setup = set_up_passed, .victim = get_and_finish,
    .rescue = work_beside, .verify = check_passed, .more_members = 0);

/* Waiting *************************************************************************************** */

/* V has an item. Another one sleeps, and gets it when V is dead; if it is done, there is another. */
static void set_up_one(void)
{
    open_queue(true, ITEM_SMALL, 1);
}

static void get_one_more(void)
{
    int r = get_again(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
    if (r > 0)
        finish();
}

static bool give_if_done(void)
{
    if (covey_queue_join(items.queue, 0) == 0)
        check_int(items_world_puts(), ==, 0);
    return true;
}

OPERATION(queue_claim_awaited, .setup = set_up_one, .warm = get, .victim = finish,
    .when = RESCUE_SLEEPS_FIRST, .rescue = get_one_more, .unblock = give_if_done, .no_stall = true,
    .verify = done, .proves = "queue_claims wait_lives");

/* V dies when somebody is stopped among the heads, who leaves them later without having seen it. */
static pid_t stopped;

static void be_there(void)
{
    check_int(covey_open(), ==, 0);
    sweep_tell(STOPPED, cv_self.mark);
}

static void set_up_held_up(void)
{
    set_up_one();
    stopped = sweep_fork(be_there);
}

static void use(void)
{
    check_int(covey_queue_item_max(items.queue), >, 0);
}

static void stop_there(void)
{
    cv_store_seq(&items.queue->get.lock, sweep_told(STOPPED));
}

static bool go_on(void)
{
    cv_clock_sleep(300 * CV_NS_PER_MS); /* it has given up to look there */
    cv_store_seq(&items.queue->get.lock, 0);
    return true;
}

static void check_got(void)
{
    sweep_kill(stopped);
    check(sweep_told(1) == 1 || !sweep_rescuer_finished());
    done();
}

OPERATION(queue_claim_held_up, .setup = set_up_held_up, .warm = get, .victim = use,
    .look = stop_there, .when = RESCUE_SLEEPS_FIRST, .rescue = get_one_more, .unblock = go_on,
    .no_stall = true, .no_rescue = true, .verify = check_got, .proves = "queue_claims");

/* One who joins sleeps until V is done, or dead. */
static void join(void)
{
    int r = covey_queue_join(items.queue, sweep_patience());

    check(r == 0 || r == COVEY_EOWNERDEAD || sweep_is_fine(r));
}

static void set_up_one_lost(void)
{
    open_queue(false, ITEM_SMALL, 1);
}

OPERATION(queue_done_awaited, .setup = set_up_one_lost, .warm = get, .victim = finish,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = join, .no_stall = true, .verify = done,
    .proves = "queue_claims wait_alarm_all");

/* V joins, asleep, and another one, too. */
static void victim_joins(void)
{
    check_int(covey_queue_join(items.queue, COVEY_FOREVER), ==, 0);
}

static bool finish_rest(void)
{
    finish_all();
    return true;
}

OPERATION(queue_join, .setup = set_up_one_lost, .victim = victim_joins, .when = RESCUE_SLEEPS_LATE,
    .rescue = join, .unblock = finish_rest, .after = finish_all, .verify = done);

/* The queue is full. A producer has room as soon as V has got an item, done or not. */
/* V finds that an item was lost; whoever is told, is told of one. */
static void lose_one(void)
{
    sweep_kill(sweep_fork(get));
}

static void set_up_lost_by_another(void)
{
    set_up_one_lost();
    lose_one();
}

static void find_lost(void)
{
    int r = covey_queue_join(items.queue, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    if (r == COVEY_EOWNERDEAD)
        check(strstr(covey_error(), "1 items"));
}

OPERATION(queue_join_lost, .setup = set_up_lost_by_another, .victim = find_lost,
    .rescue = find_lost, .verify = done);

/*
 * The tail goes on in a new segment, while the others have what was in the one before, and leave it: that is the
 * second one already, for the first one stays.
 */
static void set_up_growing(void)
{
    redelivers = true;
    check_int(covey_queue_open(&items.queue, .items = 8, .redeliver = true), ==, 0);
    items_begin(QUARTER, 4);
    items.any_order = true;
    finish_all();
    items.first = IN_SECOND;
    for (unsigned i = 1; i <= IN_SECOND; i++) {
        check_int(items_put(i, QUARTER, 0), ==, 0);
        sweep_tell(i, 0);
    }
    check_int(cv_place_slot(items.queue->put.tail.place), ==, 1);
}

static void get_all_and_finish(void)
{
    int n = 0;
    int r;

    while ((r = get_again(0)) > 0)
        n++;
    check_int(r, ==, COVEY_EEMPTY);
    for (; n > 0; n--)
        finish();
}

static void put_one(void)
{
    check_int(covey_queue_put(items.queue, items.buffer, items.victims_size, 0), ==, 0);
}

OPERATION(queue_claim_grown, .setup = set_up_growing, .victim = put_one,
    .rescue = get_all_and_finish, .verify = done);

/* Who has joined frees the queue. */
static void join_and_free(void)
{
    int r = covey_queue_join(items.queue, 0);

    check(r == 0 || r == COVEY_ETIMEDOUT || r == COVEY_EOWNERDEAD);
    if (r != COVEY_ETIMEDOUT)
        items_free_at_once();
}

OPERATION(queue_done_freed, .setup = set_up_one_lost, .warm = get, .victim = finish,
    .rescue = join_and_free, .verify = items_freed);

static void set_up_full(void)
{
    open_queue(false, ITEM_SMALL, NUMBER_MAX);
}

static void put_one_more(void)
{
    check(sweep_is_fine(items_put(OF_RESCUER, ITEM_SMALL, sweep_patience())));
}

static bool make_room(void)
{
    if (covey_queue_is_full(items.queue, ITEM_SMALL) == 1) {
        get();
        finish();
    }
    return true;
}

OPERATION(queue_room_awaited, .setup = set_up_full, .victim = get_and_finish,
    .when = RESCUE_SLEEPS_FIRST, .rescue = put_one_more, .unblock = make_room, .no_stall = true,
    .verify = done, .proves = "wait_alarm");

/* V dies with the first item just claimed: what comes after it is put where that was. */
static void set_up_ring(void)
{
    redelivers = false;
    check_int(covey_queue_open(&items.queue, .bytes = 104, .joinable = true), ==, 0);
    items_begin(ITEM_SMALL, NUMBER_MAX);
    items.any_order = true;
}

static void check_ring(void)
{
    check_joined();
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

static void join_and_put(void)
{
    int r;

    (void)covey_queue_join(items.queue, 0);
    r = items_put(OF_RESCUER, 8, 0);
    check(r == 0 || r == COVEY_EFULL);
    if (r == 0 && sweep_is_dead()) {
        check_int(get_again(0), <=, 2);
        finish();
    }
    finish_all();
    if (!sweep_was_stalled())
        return;
    r = items_put(OF_RESCUER, items.size, 0);
    if (r == COVEY_EFULL &&
        sweep_is_dead()) { /* there was nothing to be had as long as it was not */
        finish_all();
        r = items_put(OF_RESCUER, items.size, 0);
        check_int(r, ==, 0);
    }
    check(r == 0 || r == COVEY_EFULL);
}

OPERATION(queue_claim_reused, .setup = set_up_ring, .victim = get_and_finish,
    .rescue = join_and_put, .verify = check_ring);

/* The head is at the end of the second segment, and the items in the first one again. */
static void set_up_leave(void)
{
    enum {
        FIFTH = 200,
    };

    redelivers = true;
    check_int(covey_queue_open(&items.queue, .items = 8, .redeliver = true), ==, 0);
    items_begin(FIFTH, 0);
    items.any_order = true;
    for (int i = 0; i < 5; i++)
        check_int(items_put(OF_WORLD, FIFTH, 0), ==, 0);
    finish_all();
    do {
        check_int(items_put(1, FIFTH, 0), ==, 0);
        if (cv_place_slot(items.queue->put.tail.place) == 0)
            break;
        finish_all();
    } while (true);
    check_int(cv_place_slot(items.queue->get.head.place), ==, 1);
    check_int(items_put(2, FIFTH, 0), ==, 0);
    sweep_tell(1, 0);
    sweep_tell(OF_WORLD, 0);
    items.first = 2;
}

OPERATION(queue_claim_leave, .setup = set_up_leave, .victim = get_and_finish, .rescue = work,
    .verify = done, .proves = "queue_claims");

/* Of two priorities. */
static void set_up_lanes(void)
{
    unsigned char item[ITEM_SMALL];

    redelivers = true;
    check_int(
        covey_queue_open(&items.queue, .items = 4, .redeliver = true, .priorities = 2), ==, 0);
    items_begin(ITEM_SMALL, 1);
    items_fill(item, 2, ITEM_SMALL);
    check_int(covey_queue_put_at(items.queue, 1, item, ITEM_SMALL, 0), ==, 0);
    items.first = 2;
    items.any_order = true;
}

OPERATION(queue_claim_lanes, .setup = set_up_lanes, .victim = get_two, .rescue = work,
    .after = give_more, .verify = done, .proves = "queue_claims");
