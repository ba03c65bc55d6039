/* SPDX-License-Identifier: MIT */
/*
 * What happens when a semaphore is released more often than it was acquired. An ordinary one has a
 * permit more than at first; a bounded one says that this is an error; a counter of events counts.
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

static void release_too_often(const char *name, enum covey_semaphore_kind kind)
{
    covey_semaphore *semaphore = covey_alloc(sizeof *semaphore);
    int result;

    if (!semaphore)
        fail();
    check(covey_semaphore_init(semaphore, 2, kind));
    check(covey_semaphore_acquire(semaphore, COVEY_FOREVER));
    check(covey_semaphore_release(semaphore));
    result = covey_semaphore_release(semaphore);
    (void)printf("%-9s  %s; now %ld are free\n", name,
        result == 0 ? "released" : covey_strerror(result), covey_semaphore_value(semaphore));
    check(covey_semaphore_destroy(semaphore));
    check(covey_free(semaphore));
}

int main(void)
{
    release_too_often("semaphore", COVEY_SEMAPHORE);
    release_too_often("bounded", COVEY_BOUNDED);
    release_too_often("events", COVEY_EVENTS);
    return EXIT_SUCCESS;
}
