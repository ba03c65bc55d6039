/* SPDX-License-Identifier: MIT */
/*
 * A baker and two customers meet at a shelf that holds five loaves. The baker waits until there is room,
 * the customers until there is bread, or no more will come. The shelf has one lock, and a condition for
 * each of these. Prints how many loaves were baked and eaten.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    ROOM = 5,
    LOAVES = 200,
    CUSTOMERS = 2,
};

struct shop {
    covey_lock lock;
    covey_condition has_room;
    covey_condition has_bread;
    int baked;
    int eaten;
};

static _Noreturn void fail(void)
{
    (void)fprintf(stderr, "%s\n", covey_error());
    exit(EXIT_FAILURE);
}

static void check(int result)
{
    if (result < 0)
        fail();
}

static int has_room(void *context)
{
    const struct shop *shop = context;

    return shop->baked - shop->eaten < ROOM;
}

static int has_bread_or_is_over(void *context)
{
    const struct shop *shop = context;

    return shop->baked > shop->eaten || shop->eaten == LOAVES;
}

static int bake(void *argument)
{
    struct shop *shop = *(struct shop **)argument;

    for (int i = 0; i < LOAVES; i++) {
        check(covey_lock_acquire(&shop->lock, COVEY_FOREVER));
        check(covey_condition_wait_for(&shop->has_room, has_room, shop, COVEY_FOREVER));
        shop->baked++;
        check(covey_condition_notify(&shop->has_bread, 1));
        check(covey_lock_release(&shop->lock));
    }
    return 0;
}

static int eat(void *argument)
{
    struct shop *shop = *(struct shop **)argument;
    int is_over;

    do {
        check(covey_lock_acquire(&shop->lock, COVEY_FOREVER));
        check(
            covey_condition_wait_for(&shop->has_bread, has_bread_or_is_over, shop, COVEY_FOREVER));
        if (shop->baked > shop->eaten) {
            shop->eaten++;
            check(covey_condition_notify(&shop->has_room, 1));
        }
        is_over = shop->eaten == LOAVES;
        if (is_over) /* the other customer need not wait, either */
            check(covey_condition_notify_all(&shop->has_bread));
        check(covey_lock_release(&shop->lock));
    } while (!is_over);
    return 0;
}

static struct shop *open_shop(void)
{
    struct shop *shop = covey_calloc(1, sizeof *shop);

    if (!shop)
        fail();
    check(covey_lock_init(&shop->lock));
    check(covey_condition_init(&shop->has_room, &shop->lock));
    check(covey_condition_init(&shop->has_bread, &shop->lock));
    return shop;
}

static void close_shop(struct shop *shop)
{
    check(covey_condition_destroy(&shop->has_room));
    check(covey_condition_destroy(&shop->has_bread));
    check(covey_lock_destroy(&shop->lock));
    check(covey_free(shop));
}

static void run(enum covey_method method)
{
    struct shop *shop = open_shop();
    covey_process *people[1 + CUSTOMERS];

    check(covey_process_start(&people[0], bake, COVEY_ARGUMENT(shop), .method = method));
    for (int i = 1; i <= CUSTOMERS; i++)
        check(covey_process_start(&people[i], eat, COVEY_ARGUMENT(shop), .method = method));
    for (int i = 0; i <= CUSTOMERS; i++) {
        check(covey_process_join(people[i], COVEY_FOREVER));
        check(covey_process_close(people[i]));
    }
    (void)printf("%d baked, %d eaten\n", shop->baked, shop->eaten);
    close_shop(shop);
}

int main(int argc, char **argv)
{
    covey_main(argc, argv);
    run(COVEY_FORK);
    run(COVEY_SPAWN);
    run(COVEY_FORKSERVER);
    return EXIT_SUCCESS;
}
