/* SPDX-License-Identifier: MIT */
/*
 * Two processes take two locks in opposite order, and would wait for each other for ever. The family
 * looks for deadlocks; so the one that closes the circle is told, with the circle in words. It prints
 * who waits for what and who holds what, and gives its lock up: the other one goes on.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct table {
    covey_lock fork;
    covey_lock knife;
    covey_barrier both_hold_one;
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

static void say(const char *what)
{
    (void)printf("%s: %s\n", covey_process_name(covey_process_current()), what);
    (void)fflush(stdout);
}

static int dine(struct table *table, covey_lock *first, covey_lock *second)
{
    int result;

    check(covey_lock_acquire(first, COVEY_FOREVER));
    check(covey_barrier_wait(&table->both_hold_one, COVEY_FOREVER));
    result = covey_lock_acquire(second, COVEY_FOREVER);
    if (result == COVEY_EDEADLK) {
        say(covey_error());
        check(covey_waits_print(STDOUT_FILENO));
        say("I yield");
    } else {
        check(result);
        say("I have both");
        check(covey_lock_release(second));
    }
    check(covey_lock_release(first));
    return 0;
}

static int fork_first(void *argument)
{
    struct table *table = *(struct table **)argument;

    return dine(table, &table->fork, &table->knife);
}

static int knife_first(void *argument)
{
    struct table *table = *(struct table **)argument;

    return dine(table, &table->knife, &table->fork);
}

static void join(covey_process *process)
{
    check(covey_process_join(process, COVEY_FOREVER));
    check(covey_process_close(process));
}

int main(int argc, char **argv)
{
    covey_process *plato;
    covey_process *kant;
    struct table *table;

    covey_main(argc, argv);
    check(covey_open(.deadlocks = COVEY_DEADLOCKS_DETECT));
    table = covey_alloc(sizeof *table);
    if (!table)
        fail();
    check(covey_lock_init(&table->fork));
    check(covey_lock_init(&table->knife));
    check(covey_barrier_init(&table->both_hold_one, 2));
    check(covey_process_start(&plato, fork_first, COVEY_ARGUMENT(table), .name = "plato"));
    check(covey_process_start(&kant, knife_first, COVEY_ARGUMENT(table), .name = "kant"));
    join(plato);
    join(kant);
    check(covey_barrier_destroy(&table->both_hold_one));
    check(covey_lock_destroy(&table->fork));
    check(covey_lock_destroy(&table->knife));
    check(covey_free(table));
    return EXIT_SUCCESS;
}
