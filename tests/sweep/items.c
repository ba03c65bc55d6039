/* SPDX-License-Identifier: MIT */
#include "items.h"

#include "msg/queue.h"

enum {
    BLOCKS_OF_SIZE = 8,
};

/* Where a queue may have been: its own bytes, what goes with them, and both together. */
static const size_t of_queue[] = {sizeof(covey_queue), 1500, 2000};

struct items items;

void items_fill(unsigned char *item, unsigned number, size_t size)
{
    sweep_fill(item, size, number);
    item[0] = (unsigned char)number;
}

int items_read(const unsigned char *item, size_t size)
{
    check_int(item[0], >, 0);
    check_int(item[0], <, NUMBERS);
    check(sweep_is_filled(item + 1, size - 1, (uint64_t)item[0] + 1));
    return item[0];
}

void items_tell(int number)
{
    sweep_tell((unsigned)number, sweep_told((unsigned)number) + 1);
}

int items_put(unsigned number, size_t size, double timeout_s)
{
    unsigned char item[ITEM_MAX];

    items_fill(item, number, size);
    return covey_queue_put(items.queue, item, size, timeout_s);
}

int items_get(double timeout_s)
{
    static int before;
    unsigned char item[ITEM_MAX];
    size_t size = 0;
    int r = covey_queue_get(items.queue, item, sizeof item, &size, timeout_s);

    if (r != 0)
        return r;
    r = items_read(item, size);
    check(r > before || before > (int)items.first || items.any_order);
    before = r;
    items_tell(r);
    return r;
}

void items_begin(size_t size, unsigned n)
{
    items.buffer = covey_alloc(ITEM_MAX);
    items_fill(items.buffer, OF_VICTIM, size);
    items.first = n;
    items.size = size;
    items.victims_size = size;
    for (unsigned i = 1; i <= n; i++)
        check_int(items_put(i, size, 0), ==, 0);
}

void items_victim_puts(void)
{
    sweep_tell(VICTIM_PUTS, 1);
    check_int(covey_queue_put(items.queue, items.buffer, items.victims_size, COVEY_FOREVER), ==, 0);
}

void items_victim_gets(void)
{
    size_t size = 0;

    sweep_tell(VICTIM_GETS, 1);
    check_int(covey_queue_get(items.queue, items.buffer, ITEM_MAX, &size, COVEY_FOREVER), ==, 0);
    sweep_tell(VICTIM_GOT, size);
}

void items_rescuer_puts(void)
{
    int r = items_put(OF_RESCUER + sweep_rescuer(), items.size, sweep_patience());

    check(sweep_is_fine(r));
    if (r == 0)
        sweep_tell(PUT_BY_RESCUERS + sweep_rescuer(), 1);
}

void items_rescuer_gets(void)
{
    int r = items_get(sweep_patience());

    check(r > 0 || sweep_is_fine(r));
}

void items_rescuer_empties(void)
{
    bool calm = !sweep_was_stalled();
    long size = covey_queue_size(items.queue);
    long n = 0;
    int r;

    while ((r = items_get(0)) > 0)
        n++;
    check_int(r, ==, COVEY_EEMPTY);
    if (calm)
        check_int(n, ==, size);
    items_rescuer_puts();
    if (!calm)
        return;
    check_int(covey_queue_size(items.queue), ==, 1);
    check_int(items_get(0), ==, OF_RESCUER);
    check_int(covey_queue_is_empty(items.queue), ==, 1);
    check_int(covey_queue_is_full(items.queue, items.size), ==, 0);
}

int items_world_puts(void)
{
    int r = items_put(OF_WORLD + items.by_world, items.size, sweep_patience());

    if (r == 0)
        items.by_world++;
    return r;
}

static bool is_in(unsigned number)
{
    if (number < OF_VICTIM)
        return number <= items.first;
    if (number < OF_RESCUER)
        return number - OF_VICTIM < sweep_told(VICTIM_PUTS) && sweep_victim_finished();
    if (number < OF_WORLD)
        return sweep_told(PUT_BY_RESCUERS + number - OF_RESCUER);
    return number < OF_WORLD + items.by_world;
}

static unsigned missing(void)
{
    unsigned n = 0;

    for (unsigned i = 1; i < NUMBERS; i++) {
        check_int(sweep_told(i), <=, 1);
        n += is_in(i) && !sweep_told(i);
    }
    return n;
}

/* V puts several, one after the other. */
static void check_batch(void)
{
    for (unsigned i = 1; i < sweep_told(VICTIM_PUTS); i++)
        check_int(sweep_told(OF_VICTIM + i), <=, sweep_told(OF_VICTIM + i - 1));
}

void items_check(void)
{
    unsigned lost = (sweep_victim_finished() ? 0 : (unsigned)sweep_told(VICTIM_GETS)) +
                    !sweep_rescuer_finished();
    long size = covey_queue_size(items.queue);
    long n = 0;
    int r;

    if (sweep_told(VICTIM_GOT))
        items_tell(items_read(items.buffer, sweep_told(VICTIM_GOT)));
    while ((r = items_get(0)) > 0)
        n++;
    check(r == COVEY_EEMPTY || r == COVEY_ECLOSED);
    check_int(n, ==, size);
    check_int(missing(), <=, lost);
    if (sweep_rescuer_finished())
        check_batch();
    if (r == COVEY_EEMPTY) {
        check_int(items_world_puts(), ==, 0);
        check_int(items_get(0), ==, OF_WORLD + items.by_world - 1);
        check_int(covey_queue_close(items.queue), ==, 0);
        check_int(items_get(0), ==, COVEY_ECLOSED);
    }
}

void items_done(void)
{
    items_check();
    check_int(covey_queue_free(items.queue), ==, 0);
    check_int(covey_free(items.buffer), ==, 0);
}

void items_free_at_once(void)
{
    if (items.queue->put.lock || items.queue->get.lock) /* V has one, and would be waited for */
        return;
    check_int(covey_queue_free(items.queue), ==, 0);
    sweep_tell(QUEUE_FREED, 1);
    for (size_t i = 0; i < sizeof of_queue / sizeof *of_queue * BLOCKS_OF_SIZE; i++)
        (void)sweep_keep(of_queue[i / BLOCKS_OF_SIZE]);
}

void items_freed(void)
{
    int r = covey_queue_free(items.queue);

    check(r == 0 || r == COVEY_EINVAL);
    if (sweep_rescuer_finished())
        check_int(r, ==, sweep_told(QUEUE_FREED) ? COVEY_EINVAL : 0);
    check_int(covey_free(items.buffer), ==, 0);
}
