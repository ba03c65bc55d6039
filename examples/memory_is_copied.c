/* SPDX-License-Identifier: MIT */
/*
 * What a forked child sees of its parent's memory. A child sets an ordinary variable of 100 to 0:
 * it has changed its own copy, and the parent still sees 100. Another child does the same to a
 * number that lies in the arena, which all processes share: now the parent sees 0.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

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

static int set_to_zero(void *argument)
{
    int *n = *(int **)argument;

    *n = 0;
    (void)printf("  the child sees %d\n", *n);
    return 0;
}

static void let_a_child_change(int *n)
{
    covey_process *child;

    check(covey_process_start(&child, set_to_zero, COVEY_ARGUMENT(n), .method = COVEY_FORK));
    check(covey_process_join(child, COVEY_FOREVER));
    check(covey_process_close(child));
    (void)printf("  the parent sees %d\n", *n);
}

int main(int argc, char **argv)
{
    int copied = 100;
    int *shared;

    covey_main(argc, argv);
    (void)printf("in the process's own memory:\n");
    let_a_child_change(&copied);

    shared = covey_alloc(sizeof *shared);
    if (!shared)
        fail();
    *shared = 100;
    (void)printf("in the arena:\n");
    let_a_child_change(shared);
    check(covey_free(shared));
    return EXIT_SUCCESS;
}
