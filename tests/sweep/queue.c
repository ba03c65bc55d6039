/* SPDX-License-Identifier: MIT */
/*
 * The queue. Each item has a number, and bytes that go with it, so that a torn one would show; who
 * gets an item tells so. In the end every number must have been got once, but for one that went with
 * each process that was killed while it was getting.
 */
#include "sweep.h"

#include <string.h>

enum {
    SMALL = 24,
    LARGE = 3000, /* the C library copies it by rep movsb, where that is fast */
    BUFFER = 4096,

    /* Numbers; of the first items: 1, 2, ... */
    OF_VICTIM = 10,
    OF_RESCUER = 11,
    OF_WORLD = 16,
    NUMBERS = 24,

    /* Also told: what V is doing, and which rescuers have put their item. */
    VICTIM_PUTS = 24,
    VICTIM_GETS,
    VICTIM_GOT, /* so many bytes */
    PUT_BY_RESCUERS,
};

static covey_queue *q;
static unsigned first_items;
static size_t item_size;
static unsigned char *buffer; /* what V puts, or has got; in the arena */
static unsigned put_by_world;

static void fill(unsigned char *item, unsigned number, size_t size)
{
    sweep_fill(item, size, number);
    item[0] = (unsigned char)number;
}

/* The number, if all bytes go with it. */
static int read(const unsigned char *item, size_t size)
{
    check_int(item[0], >, 0);
    check_int(item[0], <, NUMBERS);
    check(sweep_is_filled(item + 1, size - 1, (uint64_t)item[0] + 1));
    return item[0];
}

static int put(unsigned number, size_t size, double timeout_s)
{
    unsigned char item[BUFFER];

    fill(item, number, size);
    return covey_queue_put(q, item, size, timeout_s);
}

static void tell(int number)
{
    sweep_tell((unsigned)number, sweep_told((unsigned)number) + 1);
}

/* The number, or a code. Items come in order: those of the beginning first. */
static int get(double timeout_s)
{
    static int before;
    unsigned char item[BUFFER];
    size_t size = 0;
    int r = covey_queue_get(q, item, sizeof item, &size, timeout_s);

    if (r != 0)
        return r;
    r = read(item, size);
    check(r > before || before > (int)first_items);
    before = r;
    tell(r);
    return r;
}

static void open_queue(size_t bytes, size_t items, size_t size, unsigned n)
{
    check_int(covey_queue_open(&q, .bytes = bytes, .items = items), ==, 0);
    buffer = covey_alloc(BUFFER);
    fill(buffer, OF_VICTIM, size);
    first_items = n;
    item_size = size;
    for (unsigned i = 1; i <= n; i++)
        check_int(put(i, size, 0), ==, 0);
}

static void put_one(void)
{
    sweep_tell(VICTIM_PUTS, 1);
    check_int(covey_queue_put(q, buffer, item_size, COVEY_FOREVER), ==, 0);
}

static void get_one(void)
{
    size_t size = 0;

    sweep_tell(VICTIM_GETS, 1);
    check_int(covey_queue_get(q, buffer, BUFFER, &size, COVEY_FOREVER), ==, 0);
    sweep_tell(VICTIM_GOT, size);
}

/* What rescuers do ****************************************************************************** */

static void rescuer_puts(void)
{
    int r = put(OF_RESCUER + sweep_rescuer(), item_size, sweep_patience());

    check(sweep_is_fine(r));
    if (r == 0)
        sweep_tell(PUT_BY_RESCUERS + sweep_rescuer(), 1);
}

static void rescuer_gets(void)
{
    int r = get(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
}

/* All that is in it, as many as it says; then one in and out again. */
static void empty_and_use(void)
{
    bool calm = !sweep_was_stalled();
    long size = covey_queue_size(q);
    long n = 0;
    int r;

    while ((r = get(0)) > 0)
        n++;
    check_int(r, ==, COVEY_EEMPTY);
    if (calm)
        check_int(n, ==, size);
    rescuer_puts();
    if (!calm)
        return;
    check_int(covey_queue_size(q), ==, 1);
    check_int(get(0), ==, OF_RESCUER);
    check_int(covey_queue_is_empty(q), ==, 1);
    check_int(covey_queue_is_full(q, item_size), ==, 0);
}

/* What the world does *************************************************************************** */

static int world_puts(void)
{
    int r = put(OF_WORLD + put_by_world, item_size, sweep_patience());

    if (r == 0)
        put_by_world++;
    return r;
}

static unsigned missing(void)
{
    unsigned n = 0;

    for (unsigned i = 1; i < NUMBERS; i++) {
        bool in =
            i <= first_items ||
            (i == OF_VICTIM && sweep_told(VICTIM_PUTS) && sweep_victim_finished()) ||
            (i >= OF_RESCUER && i < OF_WORLD && sweep_told(PUT_BY_RESCUERS + i - OF_RESCUER)) ||
            (i >= OF_WORLD && i < OF_WORLD + put_by_world);

        check_int(sweep_told(i), <=, 1);
        n += in && !sweep_told(i);
    }
    return n;
}

static void done(void)
{
    unsigned lost =
        (sweep_told(VICTIM_GETS) && !sweep_victim_finished()) + !sweep_rescuer_finished();
    long size = covey_queue_size(q);
    long n = 0;
    int r;

    if (sweep_told(VICTIM_GOT))
        tell(read(buffer, sweep_told(VICTIM_GOT)));
    while ((r = get(0)) > 0)
        n++;
    check(r == COVEY_EEMPTY || r == COVEY_ECLOSED);
    check_int(n, ==, size);
    check_int(missing(), <=, lost);
    if (r == COVEY_EEMPTY) {
        check_int(world_puts(), ==, 0);
        check_int(get(0), ==, OF_WORLD + put_by_world - 1);
        check_int(covey_queue_close(q), ==, 0);
        check_int(get(0), ==, COVEY_ECLOSED);
    }
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_free(buffer), ==, 0);
}

/* Putting *************************************************************************************** */

static void set_up_put(void)
{
    open_queue(1024, 0, SMALL, 2);
}

OPERATION(queue_put, .setup = set_up_put, .victim = put_one, .rescue = empty_and_use,
    .verify = done, .proves = "queue_mend queue_count");

/* The ring has 256 bytes, of which 16 are left behind the item that waits. */
static void set_up_wrap(void)
{
    open_queue(256, 0, 40, 0);
    for (unsigned i = 1; i <= 4; i++) {
        check_int(put(OF_WORLD, 40, 0), ==, 0);
        check_int(get(0), ==, OF_WORLD);
        sweep_tell(OF_WORLD, 0);
    }
    check_int(put(1, 40, 0), ==, 0);
    first_items = 1;
    item_size = 64;
    fill(buffer, OF_VICTIM, item_size);
}

OPERATION(queue_put_wrap, .setup = set_up_wrap, .victim = put_one, .rescue = empty_and_use,
    .verify = done, .proves = "queue_mend");

static void set_up_large(void)
{
    open_queue(16 * 1024, 0, LARGE, 2);
}

OPERATION(queue_put_large, .setup = set_up_large, .victim = put_one, .rescue = empty_and_use,
    .verify = done);

static void set_up_empty(void)
{
    open_queue(1024, 0, SMALL, 0);
}

/* Two consumers sleep; they shall have two items, but what V has put must be found without a wake
 * from here. */
static bool give_what_is_missing(void)
{
    for (long i = covey_queue_size(q); i < 2; i++)
        check(sweep_is_fine(world_puts()));
    return true;
}

OPERATION(queue_put_awaited, .setup = set_up_empty, .victim = put_one, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .rescue = rescuer_gets, .unblock = give_what_is_missing, .no_stall = true,
    .verify = done, .proves = "wait_alarm");

static void set_up_full(void)
{
    open_queue(1024, 2, SMALL, 2);
}

static bool make_room(void)
{
    int r = get(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
    return r > 0;
}

/* If the room was taken, there is more; else the rescuer must have been told of what there is. */
static void make_more_room(void)
{
    if (covey_queue_size(q) == 2)
        check_int(get(0), >, 0);
}

OPERATION(queue_put_asleep, .setup = set_up_full, .victim = put_one, .when = RESCUE_SLEEPS_LATE,
    .rescue = rescuer_puts, .unblock = make_room, .after = make_more_room, .verify = done,
    .proves = "wait_alarm_asleep");

static void put_or_give_up(void)
{
    int r = covey_queue_put(q, buffer, item_size, 0.15);

    check(r == 0 || r == COVEY_EFULL);
    sweep_tell(VICTIM_PUTS, r == 0);
}

OPERATION(queue_put_give_up, .setup = set_up_full, .victim = put_or_give_up,
    .when = RESCUE_SLEEPS_LATE, .rescue = rescuer_puts, .after = make_more_room, .verify = done,
    .is_slow = true);

/* Getting *************************************************************************************** */

static void set_up_get(void)
{
    open_queue(1024, 0, SMALL, 3);
}

OPERATION(queue_get, .setup = set_up_get, .victim = get_one, .rescue = empty_and_use,
    .verify = done, .proves = "lock_takeover");

OPERATION(queue_get_large, .setup = set_up_large, .victim = get_one, .rescue = empty_and_use,
    .verify = done);

static bool make_room_if_there_is_none(void)
{
    make_more_room();
    return true;
}

OPERATION(queue_get_awaited, .setup = set_up_full, .victim = get_one, .when = RESCUE_SLEEPS_FIRST,
    .rescue = rescuer_puts, .unblock = make_room_if_there_is_none, .no_stall = true, .verify = done,
    .proves = "wait_alarm");

static bool give_one(void)
{
    int r = world_puts();

    check(sweep_is_fine(r));
    return r == 0;
}

static void give_more(void)
{
    if (covey_queue_size(q) == 0)
        check_int(world_puts(), ==, 0);
}

OPERATION(queue_get_asleep, .setup = set_up_empty, .victim = get_one, .when = RESCUE_SLEEPS_LATE,
    .rescue = rescuer_gets, .unblock = give_one, .after = give_more, .verify = done,
    .proves = "wait_alarm_asleep");

static void get_or_give_up(void)
{
    size_t size = 0;
    int r;

    sweep_tell(VICTIM_GETS, 1);
    r = covey_queue_get(q, buffer, BUFFER, &size, 0.15);
    check(r == 0 || r == COVEY_EEMPTY);
    sweep_tell(VICTIM_GOT, size);
}

OPERATION(queue_get_give_up, .setup = set_up_empty, .victim = get_or_give_up,
    .when = RESCUE_SLEEPS_LATE, .rescue = rescuer_gets, .after = give_more, .verify = done,
    .is_slow = true);

/* The rest ************************************************************************************** */

static void close_queue(void)
{
    check_int(covey_queue_close(q), ==, 0);
}

static void find_closed(void)
{
    check_int(get(COVEY_FOREVER), ==, COVEY_ECLOSED);
}

static bool close_if_open(void)
{
    if (covey_queue_is_closed(q) == 0)
        close_queue();
    return true;
}

OPERATION(queue_close, .setup = set_up_empty, .victim = close_queue, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 3, .rescue = find_closed, .unblock = close_if_open, .no_stall = true,
    .verify = done, .proves = "wait_alarm_all wait_alarm");

static void ask_size(void)
{
    check_int(covey_queue_size(q), ==, 2);
}

OPERATION(queue_size, .setup = set_up_put, .victim = ask_size, .rescue = empty_and_use,
    .verify = done, .no_stall = true);

static void ask_full(void)
{
    check_int(covey_queue_is_full(q, SMALL), ==, 1);
}

OPERATION(queue_is_full, .setup = set_up_full, .victim = ask_full, .rescue = empty_and_use,
    .verify = done, .no_stall = true);

static void open_one(void)
{
    check_int(covey_queue_open(&q, .bytes = 100 * 1024), ==, 0);
    check_int(covey_queue_put(q, "item", 4, 0), ==, 0);
    sweep_tell(0, (uintptr_t)q);
}

static void use_another(void)
{
    item_size = SMALL;
    check_int(covey_queue_open(&q, .bytes = 100 * 1024), ==, 0);
    check_int(put(1, SMALL, 0), ==, 0);
    check_int(get(0), ==, 1);
    check_int(covey_queue_free(q), ==, 0);
}

static void free_opened(void)
{
    char item[4];

    if (!sweep_victim_finished())
        return;
    q = (covey_queue *)(uintptr_t)sweep_told(0); /* NOLINT(performance-no-int-to-ptr) */
    check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
    check_int(memcmp(item, "item", 4), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

OPERATION(
    queue_open, .setup = NULL, .victim = open_one, .rescue = use_another, .verify = free_opened);

static void free_queue(void)
{
    check_int(covey_queue_free(q), ==, 0);
}

/* It is a queue no more, or still one; its block is there until the last. */
static void free_what_is_left(void)
{
    int r = covey_queue_free(q);

    check(r == 0 || r == COVEY_EINVAL);
    if (sweep_victim_finished())
        check_int(r, ==, COVEY_EINVAL);
    check_int(covey_free(buffer), ==, 0);
}

OPERATION(queue_free, .setup = set_up_put, .victim = free_queue, .rescue = sweep_use_heap,
    .verify = free_what_is_left);
