/* SPDX-License-Identifier: MIT */
/*
 * A table that many read and one changes. The readers, started in all three ways, first show that they
 * can be inside all at the same time: while holding the lock they meet at a barrier. Then a writer
 * changes the table again and again, one number after the other, and no reader ever sees it half
 * changed.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    READERS = 3,
    CHANGES = 500,
    NUMBERS = 10,
};

struct table {
    covey_rwlock lock;
    covey_barrier inside;
    int numbers[NUMBERS]; /* all the same, but while they are changed */
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

static int is_half_changed(const struct table *table)
{
    for (int i = 1; i < NUMBERS; i++) {
        if (table->numbers[i] != table->numbers[0])
            return 1;
    }
    return 0;
}

/* Until the last change is seen; ends with 1 if the table was ever half changed. */
static int read_all(void *argument)
{
    struct table *table = *(struct table **)argument;
    int half = 0;
    int last = 0;

    check(covey_rwlock_acquire_read(&table->lock, COVEY_FOREVER));
    check(covey_barrier_wait(&table->inside, COVEY_FOREVER));
    check(covey_rwlock_release(&table->lock));
    while (last < CHANGES) {
        check(covey_rwlock_acquire_read(&table->lock, COVEY_FOREVER));
        half |= is_half_changed(table);
        last = table->numbers[0];
        check(covey_rwlock_release(&table->lock));
    }
    return half;
}

static int change_all(void *argument)
{
    struct table *table = *(struct table **)argument;

    check(covey_barrier_wait(&table->inside, COVEY_FOREVER)); /* the readers are in there */
    for (int change = 1; change <= CHANGES; change++) {
        check(covey_rwlock_acquire_write(&table->lock, COVEY_FOREVER));
        for (int i = 0; i < NUMBERS; i++)
            table->numbers[i] = change;
        check(covey_rwlock_release(&table->lock));
    }
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *processes[READERS + 1];
    struct table *table;

    covey_main(argc, argv);
    table = covey_calloc(1, sizeof *table);
    if (!table)
        fail();
    check(covey_rwlock_init(&table->lock));
    check(covey_barrier_init(&table->inside, READERS + 1));
    for (int i = 0; i < READERS; i++)
        check(covey_process_start(&processes[i], read_all, COVEY_ARGUMENT(table), .name = "reader",
            .method = (enum covey_method)(COVEY_FORK + i)));
    check(covey_process_start(
        &processes[READERS], change_all, COVEY_ARGUMENT(table), .name = "writer"));
    for (int i = 0; i <= READERS; i++) {
        int code;

        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_exit_code(processes[i], &code));
        (void)printf("a %s ended with %d\n", covey_process_name(processes[i]), code);
        check(covey_process_close(processes[i]));
    }
    check(covey_barrier_destroy(&table->inside));
    check(covey_rwlock_destroy(&table->lock));
    check(covey_free(table));
    return EXIT_SUCCESS;
}
