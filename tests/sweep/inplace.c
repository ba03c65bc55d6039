/* SPDX-License-Identifier: MIT */
/* Items that are written and read where they lie, in the queue or in a block of it. */
#include "items.h"

#include <string.h>

static void open_queue(size_t size, unsigned n)
{
    check_int(covey_queue_open(&items.queue, .bytes = 32 * 1024), ==, 0);
    items_begin(size, n);
}

static void set_up_small(void)
{
    open_queue(ITEM_SMALL, 2);
}

static void set_up_block(void)
{
    open_queue(ITEM_BLOCK, 2);
    items.size = ITEM_SMALL;
}

/* Writing *************************************************************************************** */

/* Reserved is more than is put then. */
static void reserve_and_commit(void)
{
    void *item;

    sweep_tell(VICTIM_PUTS, 1);
    check_int(
        covey_queue_reserve(items.queue, items.victims_size + 100, &item, COVEY_FOREVER), ==, 0);
    memcpy(item, items.buffer, items.victims_size);
    check_int(covey_queue_commit(items.queue, item, items.victims_size), ==, 0);
}

OPERATION(queue_reserve, .setup = set_up_small, .victim = reserve_and_commit,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_mend lock_takeover");

OPERATION(queue_reserve_block, .setup = set_up_block, .victim = reserve_and_commit,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_incoming");

static void reserve_and_cancel(void)
{
    void *item;

    check_int(covey_queue_reserve(items.queue, items.victims_size, &item, COVEY_FOREVER), ==, 0);
    memcpy(item, items.buffer, items.victims_size);
    check_int(covey_queue_cancel(items.queue, item), ==, 0);
}

OPERATION(queue_cancel, .setup = set_up_small, .victim = reserve_and_cancel,
    .rescue = items_rescuer_empties, .verify = items_done);

OPERATION(queue_cancel_block, .setup = set_up_block, .victim = reserve_and_cancel,
    .rescue = items_rescuer_empties, .verify = items_done);

/* V waits for room, and holds up another producer then. */
static void set_up_full(void)
{
    check_int(covey_queue_open(&items.queue, .items = 2), ==, 0);
    items_begin(ITEM_SMALL, 2);
}

static void reserve_asleep(void)
{
    void *item;

    sweep_tell(VICTIM_PUTS, 1);
    check_int(covey_queue_reserve(items.queue, items.victims_size, &item, COVEY_FOREVER), ==, 0);
    memcpy(item, items.buffer, items.victims_size);
    check_int(covey_queue_commit(items.queue, item, items.victims_size), ==, 0);
}

static bool make_room(void)
{
    int r = items_get(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
    return r > 0;
}

static void make_more_room(void)
{
    if (covey_queue_size(items.queue) == 2)
        check_int(items_get(0), >, 0);
}

OPERATION(queue_reserve_asleep, .setup = set_up_full, .victim = reserve_asleep,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_puts, .unblock = make_room,
    .after = make_more_room, .verify = items_done);

/* Reading *************************************************************************************** */

static void read_item(bool taken)
{
    const void *item;
    size_t size = 0;

    sweep_tell(VICTIM_GETS, taken);
    check_int(covey_queue_peek(items.queue, &item, &size, COVEY_FOREVER), ==, 0);
    memcpy(items.buffer, item, size);
    (void)items_read(items.buffer, size);
    if (taken)
        check_int(covey_queue_release(items.queue, item), ==, 0);
    else
        check_int(covey_queue_unpeek(items.queue, item), ==, 0);
    sweep_tell(VICTIM_GOT, taken ? size : 0);
}

static void peek_and_release(void)
{
    read_item(true);
}

static void peek_and_unpeek(void)
{
    read_item(false);
}

OPERATION(queue_release, .setup = set_up_small, .victim = peek_and_release,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "lock_takeover");

OPERATION(queue_release_block, .setup = set_up_block, .victim = peek_and_release,
    .rescue = items_rescuer_empties, .verify = items_done, .proves = "queue_outgoing");

OPERATION(queue_unpeek, .setup = set_up_small, .victim = peek_and_unpeek,
    .rescue = items_rescuer_empties, .verify = items_done);

static void set_up_empty(void)
{
    open_queue(ITEM_SMALL, 0);
}

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

OPERATION(queue_peek_asleep, .setup = set_up_empty, .victim = peek_and_release,
    .when = RESCUE_SLEEPS_LATE, .rescue = items_rescuer_gets, .unblock = give_one,
    .after = give_more, .verify = items_done);
