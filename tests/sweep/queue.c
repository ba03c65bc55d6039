/* SPDX-License-Identifier: MIT */
/* The queue (see also items.h): putting and getting, blocks, growth, batches, priorities, its end. */
#include "items.h"

#include "msg/queue.h"

#include <string.h>

enum {
    FIFTH = 200, /* of the first segment of a queue for eight items */
};

static void open_queue(size_t bytes, size_t most, size_t size, unsigned n)
{
    check_int(covey_queue_open(&items.queue, .bytes = bytes, .items = most), ==, 0);
    items_begin(size, n);
}

/* Putting *************************************************************************************** */

static void set_up_put(void)
{
    open_queue(1024, 0, ITEM_SMALL, 2);
}

OPERATION(queue_put, .setup = set_up_put, .victim = items_victim_puts,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_mend queue_count");

/* One item in, and out again. */
static void turn(size_t size)
{
    check_int(items_put(OF_WORLD, size, 0), ==, 0);
    check_int(items_get(0), ==, OF_WORLD);
    sweep_tell(OF_WORLD, 0);
}

/* The ring has 256 bytes, of which 16 are left behind the item that waits. */
static void set_up_wrap(void)
{
    open_queue(256, 0, 40, 0);
    for (unsigned i = 1; i <= 4; i++)
        turn(40);
    check_int(items_put(1, 40, 0), ==, 0);
    items.first = 1;
    items.size = 64;
    items.victims_size = 64;
    items_fill(items.buffer, OF_VICTIM, items.victims_size);
}

OPERATION(queue_put_wrap, .setup = set_up_wrap, .victim = items_victim_puts,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_mend");

static void set_up_large(void)
{
    open_queue(16 * 1024, 0, ITEM_LARGE, 2);
}

OPERATION(queue_put_large, .setup = set_up_large, .victim = items_victim_puts,
    .rescue = items_rescuer_empties, .verify = items_done);

static void set_up_empty(void)
{
    open_queue(1024, 0, ITEM_SMALL, 0);
}

/* Two consumers sleep; they shall have two items, but what V has put must be found without a wake
 * from here. */
static bool give_what_is_missing(void)
{
    for (long i = covey_queue_size(items.queue); i < 2; i++)
        check(sweep_is_fine(items_world_puts()));
    return true;
}

OPERATION(queue_put_awaited, .setup = set_up_empty, .victim = items_victim_puts,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = items_rescuer_gets,
    .unblock = give_what_is_missing, .no_stall = true, .verify = items_done,
    .proves = "wait_alarm");

static void set_up_full(void)
{
    open_queue(1024, 2, ITEM_SMALL, 2);
}

static bool make_room(void)
{
    int r = items_get(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
    return r > 0;
}

/* If the room was taken, there is more; else the rescuer must have been told of what there is. */
static void make_more_room(void)
{
    if (covey_queue_size(items.queue) == 2)
        check_int(items_get(0), >, 0);
}

OPERATION(queue_put_asleep, .setup = set_up_full, .victim = items_victim_puts,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_puts, .unblock = make_room,
    .after = make_more_room, .verify = items_done);

static void put_or_give_up(void)
{
    int r = covey_queue_put(items.queue, items.buffer, items.size, 0.15);

    check(r == 0 || r == COVEY_EFULL);
    sweep_tell(VICTIM_PUTS, r == 0);
}

OPERATION(queue_put_give_up, .setup = set_up_full, .victim = put_or_give_up,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_puts, .after = make_more_room,
    .verify = items_done, .is_slow = true);

/* Getting *************************************************************************************** */

static void set_up_get(void)
{
    open_queue(1024, 0, ITEM_SMALL, 3);
}

OPERATION(queue_get, .setup = set_up_get, .victim = items_victim_gets,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "lock_takeover");

OPERATION(queue_get_large, .setup = set_up_large, .victim = items_victim_gets,
    .rescue = items_rescuer_empties, .verify = items_done);

static bool make_room_if_there_is_none(void)
{
    make_more_room();
    return true;
}

OPERATION(queue_get_awaited, .setup = set_up_full, .victim = items_victim_gets,
    .when = RESCUE_SLEEPS_FIRST, .rescue = items_rescuer_puts,
    .unblock = make_room_if_there_is_none, .no_stall = true, .verify = items_done,
    .proves = "wait_alarm");

static bool give_one(void)
{
    int r = items_world_puts();

    check(sweep_is_fine(r));
    return r == 0;
}

static void give_more(void)
{
    if (covey_queue_size(items.queue) == 0)
        check_int(items_world_puts(), ==, 0);
}

OPERATION(queue_get_asleep, .setup = set_up_empty, .victim = items_victim_gets,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_gets, .unblock = give_one,
    .after = give_more, .verify = items_done);

static void get_or_give_up(void)
{
    size_t size = 0;
    int r;

    sweep_tell(VICTIM_GETS, 1);
    r = covey_queue_get(items.queue, items.buffer, ITEM_MAX, &size, 0.15);
    check(r == 0 || r == COVEY_EEMPTY);
    sweep_tell(VICTIM_GOT, size);
}

OPERATION(queue_get_give_up, .setup = set_up_empty, .victim = get_or_give_up,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_gets, .after = give_more,
    .verify = items_done, .is_slow = true);

/* Blocks **************************************************************************************** */

/* Those who come later put small ones: what counts for the block must not keep them out. */
static void set_up_block(void)
{
    open_queue(32 * 1024, 0, ITEM_BLOCK, 2);
    items.size = ITEM_SMALL;
}

OPERATION(queue_put_block, .setup = set_up_block, .victim = items_victim_puts,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_incoming");

OPERATION(queue_get_block, .setup = set_up_block, .victim = items_victim_gets,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_outgoing");

static void warm_given(void)
{
    sweep_tell(VICTIM_PUTS, 1);
    check_int(covey_own(items.buffer), ==, 0);
}

static void give_block(void)
{
    check_int(
        covey_queue_put_block(items.queue, items.buffer, items.victims_size, COVEY_FOREVER), ==, 0);
    items.buffer = covey_alloc(ITEM_MAX);
}

static void done_given(void)
{
    items.buffer = NULL;
    items_done();
}

OPERATION(queue_give_block, .setup = set_up_put, .warm = warm_given, .victim = give_block,
    .rescue = items_rescuer_empties, .verify = done_given, .proves = "queue_incoming");

/* V has the block itself then, and it goes with V. */
static void take_block(void)
{
    void *block;
    size_t size = 0;

    sweep_tell(VICTIM_GETS, 1);
    check_int(covey_queue_get_block(items.queue, &block, &size, COVEY_FOREVER), ==, 0);
    memcpy(items.buffer, block, size);
    sweep_tell(VICTIM_GOT, size);
}

OPERATION(queue_take_block, .setup = set_up_block, .victim = take_block,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_outgoing");

OPERATION(queue_take_copy, .setup = set_up_put, .victim = take_block,
    .rescue = items_rescuer_empties, .verify = items_done);

/* The next item goes to a new segment. */
static void set_up_grow(void)
{
    open_queue(0, 8, FIFTH, 4);
}

OPERATION(queue_put_grow, .setup = set_up_grow, .victim = items_victim_puts,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_incoming");

static void pass(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        check_int(items_put(OF_WORLD, FIFTH, 0), ==, 0);
    for (unsigned i = 0; i < n; i++) {
        check_int(items_get(0), ==, OF_WORLD);
        sweep_tell(OF_WORLD, 0);
    }
}

/* It goes to the first segment again. */
static void set_up_home(void)
{
    open_queue(0, 8, FIFTH, 0);
    pass(5);
    items.queue->put.tail.limit = 0;
}

static void put_home(void)
{
    items_victim_puts();
    check_int(cv_place_slot(items.queue->put.tail.place), ==, 0);
}

OPERATION(queue_put_home, .setup = set_up_home, .victim = put_home, .rescue = items_rescuer_empties,
    .verify = items_done, .proves = "queue_mend");

/* The item is in the first segment again, and the head at the end of the second one. */
static void set_up_leave(void)
{
    open_queue(0, 8, FIFTH, 0);
    pass(5);
    do {
        turn(FIFTH);
        check_int(items_put(1, FIFTH, 0), ==, 0);
        if (cv_place_slot(items.queue->put.tail.place) == 0)
            break;
        check_int(items_get(0), ==, 1);
        sweep_tell(1, 0);
    } while (true);
    check_int(cv_place_slot(items.queue->get.head.place), ==, 1);
    items.first = 1;
}

OPERATION(queue_get_leave, .setup = set_up_leave, .victim = items_victim_gets,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_outgoing");

/* Batches *************************************************************************************** */

/* The ring has 256 bytes, of which 104 are left behind the item that waits. */
static void set_up_batch(void)
{
    open_queue(256, 0, 40, 0);
    for (unsigned i = 1; i <= 3; i++)
        turn(40);
    check_int(items_put(1, 40, 0), ==, 0);
    items.first = 1;
    for (unsigned i = 0; i < OF_VICTIM_MAX; i++)
        items_fill(items.buffer + (size_t)i * 40, OF_VICTIM + i, 40);
}

static void put_many(void)
{
    sweep_tell(VICTIM_PUTS, OF_VICTIM_MAX);
    check_int(
        covey_queue_put_many(items.queue, items.buffer, 40, NULL, OF_VICTIM_MAX, COVEY_FOREVER), ==,
        OF_VICTIM_MAX);
}

OPERATION(queue_put_many, .setup = set_up_batch, .victim = put_many,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_mend queue_count");

/* The second goes as a block. */
enum {
    MIXED = 140,
};

static void put_mixed(void)
{
    static const size_t sizes[] = {40, MIXED, 40};

    sweep_tell(VICTIM_PUTS, OF_VICTIM_MAX);
    check_int(
        covey_queue_put_many(items.queue, items.buffer, MIXED, sizes, OF_VICTIM_MAX, COVEY_FOREVER),
        ==, OF_VICTIM_MAX);
}

static void set_up_mixed(void)
{
    open_queue(512, 0, 40, 1);
    items_fill(items.buffer, OF_VICTIM, 40);
    items_fill(items.buffer + MIXED, OF_VICTIM + 1, MIXED);
    items_fill(items.buffer + 2 * (size_t)MIXED, OF_VICTIM + 2, 40);
}

OPERATION(queue_put_mixed, .setup = set_up_mixed, .victim = put_mixed,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_incoming");

static void set_up_get_many(void)
{
    set_up_batch();
    check_int(items_put(2, 40, 0), ==, 0);
    check_int(items_put(3, 40, 0), ==, 0);
    items.first = 3;
}

enum {
    GOT_MANY = 30, /* told: so many */
};

static void get_many(void)
{
    long n;

    sweep_tell(VICTIM_GETS, 3);
    n = covey_queue_get_many(items.queue, items.buffer, 100, NULL, 8, COVEY_FOREVER);
    check_int(n, >, 0);
    sweep_tell(GOT_MANY, (uint64_t)n);
}

/* All are gone, or none. */
static void check_all_or_none(void)
{
    unsigned first = 0;

    for (uint64_t i = 0; i < sweep_told(GOT_MANY); i++)
        items_tell(items_read(items.buffer + i * 100, 40));
    items_done();
    for (unsigned i = 1; i <= 3; i++)
        first += sweep_told(i) != 0;
    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check(first == 0 || first == 3);
}

OPERATION(queue_get_many, .setup = set_up_get_many, .victim = get_many,
    .rescue = items_rescuer_empties, .verify = check_all_or_none);

/* Priorities ************************************************************************************ */

static void set_up_lanes(void)
{
    check_int(covey_queue_open(&items.queue, .items = 8, .priorities = 3), ==, 0);
    items_begin(ITEM_SMALL, 2);
}

static void put_high(void)
{
    sweep_tell(VICTIM_PUTS, 1);
    check_int(
        covey_queue_put_at(items.queue, 2, items.buffer, items.victims_size, COVEY_FOREVER), ==, 0);
}

/* V's comes first. */
static void get_in_order(void)
{
    int r = items_get(sweep_patience());

    check(r == OF_VICTIM || r == 1 || sweep_is_fine(r));
    if (r == OF_VICTIM)
        items.any_order = true;
    items_rescuer_empties();
}

static void set_up_lanes_put(void)
{
    set_up_lanes();
    items.any_order = true;
}

OPERATION(queue_put_at, .setup = set_up_lanes_put, .victim = put_high, .rescue = get_in_order,
    .verify = items_done, .proves = "queue_mend");

/* Two of three priorities have an item, the others' is the lowest. */
static void set_up_lanes_get(void)
{
    unsigned char item[ITEM_SMALL];

    set_up_lanes();
    items.any_order = true;
    items_fill(item, 3, ITEM_SMALL);
    check_int(covey_queue_put_at(items.queue, 1, item, ITEM_SMALL, 0), ==, 0);
    items.first = 3;
}

static void check_highest_is_gone(void)
{
    if (sweep_victim_finished() && !sweep_was_stalled())
        check_int(items.buffer[0], ==, 3);
    items_done();
}

OPERATION(queue_get_highest, .setup = set_up_lanes_get, .victim = items_victim_gets,
    .rescue = items_rescuer_empties, .verify = check_highest_is_gone);

/* A consumer of several priorities sleeps. */
static void set_up_lanes_empty(void)
{
    check_int(covey_queue_open(&items.queue, .items = 8, .priorities = 3), ==, 0);
    items_begin(ITEM_SMALL, 0);
}

OPERATION(queue_put_at_awaited, .setup = set_up_lanes_empty, .victim = put_high,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = items_rescuer_gets,
    .unblock = give_what_is_missing, .no_stall = true, .verify = items_done,
    .proves = "wait_alarm");

OPERATION(queue_get_any_asleep, .setup = set_up_lanes_empty, .victim = items_victim_gets,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_gets, .unblock = give_one,
    .after = give_more, .verify = items_done);

/* The rest ************************************************************************************** */

static void close_queue(void)
{
    check_int(covey_queue_close(items.queue), ==, 0);
}

static void find_closed(void)
{
    check_int(items_get(COVEY_FOREVER), ==, COVEY_ECLOSED);
}

static bool close_if_open(void)
{
    if (covey_queue_is_closed(items.queue) == 0)
        close_queue();
    return true;
}

OPERATION(queue_close, .setup = set_up_empty, .victim = close_queue, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 3, .rescue = find_closed, .unblock = close_if_open, .no_stall = true,
    .verify = items_done, .proves = "wait_alarm_all wait_alarm");

static void ask_size(void)
{
    check_int(covey_queue_size(items.queue), ==, 2);
}

OPERATION(queue_size, .setup = set_up_put, .victim = ask_size, .rescue = items_rescuer_empties,
    .verify = items_done, .no_stall = true);

static void ask_full(void)
{
    check_int(covey_queue_is_full(items.queue, ITEM_SMALL), ==, 1);
}

OPERATION(queue_is_full, .setup = set_up_full, .victim = ask_full, .rescue = items_rescuer_empties,
    .verify = items_done, .no_stall = true);

static void open_one(void)
{
    check_int(covey_queue_open(&items.queue, .bytes = 100 * 1024), ==, 0);
    check_int(covey_queue_put(items.queue, "item", 4, 0), ==, 0);
    sweep_tell(0, (uintptr_t)items.queue);
}

static void use_another(void)
{
    items.size = ITEM_SMALL;
    check_int(covey_queue_open(&items.queue, .bytes = 100 * 1024), ==, 0);
    check_int(items_put(1, ITEM_SMALL, 0), ==, 0);
    check_int(items_get(0), ==, 1);
    check_int(covey_queue_free(items.queue), ==, 0);
}

static void free_opened(void)
{
    char item[4];

    if (!sweep_victim_finished())
        return;
    items.queue = (covey_queue *)(uintptr_t)sweep_told(0); /* NOLINT(performance-no-int-to-ptr) */
    check_int(covey_queue_get(items.queue, item, sizeof item, NULL, 0), ==, 0);
    check_int(memcmp(item, "item", 4), ==, 0);
    check_int(covey_queue_free(items.queue), ==, 0);
}

OPERATION(
    queue_open, .setup = NULL, .victim = open_one, .rescue = use_another, .verify = free_opened);

static void free_queue(void)
{
    check_int(covey_queue_free(items.queue), ==, 0);
}

/* It is a queue no more, or still one; its block is there until the last. */
static void free_what_is_left(void)
{
    int r = covey_queue_free(items.queue);

    check(r == 0 || r == COVEY_EINVAL);
    if (sweep_victim_finished())
        check_int(r, ==, COVEY_EINVAL);
    check_int(covey_free(items.buffer), ==, 0);
}

OPERATION(queue_free, .setup = set_up_put, .victim = free_queue, .rescue = sweep_use_heap,
    .verify = free_what_is_left);

/* Others sleep in it: they are told that it is closed, and it is freed when they are gone. */
static bool close_if_there(void)
{
    return cv_object_is(items.queue, CV_QUEUE) ? close_if_open() : true;
}

OPERATION(queue_free_awaited, .setup = set_up_empty, .victim = free_queue,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .rescue = find_closed, .unblock = close_if_there,
    .no_stall = true, .no_rescue = true, .verify = free_what_is_left);

OPERATION(queue_free_blocks, .setup = set_up_block, .victim = free_queue, .rescue = sweep_use_heap,
    .verify = free_what_is_left, .proves = "object_end");

static void free_when_got(void)
{
    int r = items_get(0);

    check(r > 0 || r == COVEY_EEMPTY);
    if (r > 0)
        items_free_at_once();
}

OPERATION(queue_put_freed, .setup = set_up_empty, .victim = items_victim_puts,
    .rescue = free_when_got, .verify = items_freed);

/* From the commit on it is closed for everybody, though V may be stopped in the lock. */
static void see_closed(void)
{
    bool closed = items_get(0) == COVEY_ECLOSED;

    check_int(covey_queue_is_closed(items.queue), ==, closed);
    if (closed)
        check_int(items_put(OF_RESCUER, ITEM_SMALL, 0), ==, COVEY_ECLOSED);
}

static void free_closed(void)
{
    check_int(covey_queue_close(items.queue), ==, 0);
    check_int(covey_queue_is_closed(items.queue), ==, 1);
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

OPERATION(queue_close_seen, .setup = set_up_empty, .victim = close_queue, .rescue = see_closed,
    .verify = free_closed);

static void free_when_closed(void)
{
    int r = items_get(0);

    check(r == COVEY_ECLOSED || r == COVEY_EEMPTY);
    if (r == COVEY_ECLOSED)
        items_free_at_once();
}

OPERATION(queue_close_freed, .setup = set_up_empty, .victim = close_queue,
    .rescue = free_when_closed, .verify = items_freed);

static void set_up_producer(void)
{
    check_int(covey_queue_open(&items.queue, .bytes = 1024, .producers = 1), ==, 0);
    items_begin(ITEM_SMALL, 0);
}

static void be_producer(void)
{
    check_int(covey_queue_add_producer(items.queue, NULL), ==, 0);
}

static void leave_it(void)
{
    check_int(covey_queue_leave(items.queue), ==, 0);
}

OPERATION(queue_leave_freed, .setup = set_up_producer, .warm = be_producer, .victim = leave_it,
    .rescue = free_when_closed, .verify = items_freed);

/* Some items are in the first segment, the others in a second one. */
static void set_up_grown(void)
{
    open_queue(0, 8, FIFTH, 6);
    check_int(cv_place_slot(items.queue->put.tail.place), ==, 1);
}

OPERATION(queue_free_grown, .setup = set_up_grown, .victim = free_queue, .rescue = sweep_use_heap,
    .verify = free_what_is_left, .proves = "object_end");

/* Some of several priorities, some of them blocks. */
static void set_up_free_lanes(void)
{
    static const char large[ITEM_BLOCK];

    set_up_lanes();
    for (unsigned lane = 0; lane < 3; lane++)
        check_int(covey_queue_put_at(items.queue, lane, large, sizeof large, 0), ==, 0);
}

OPERATION(queue_free_lanes, .setup = set_up_free_lanes, .victim = free_queue,
    .rescue = sweep_use_heap, .verify = free_what_is_left, .proves = "object_end");
