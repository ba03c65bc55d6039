/* SPDX-License-Identifier: MIT */
/*
 * A pool of three processes squares the numbers 1 to 10. Each is a task of its own, submitted
 * without waiting; its future gives the result later. Prints one line for each, in order.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int square(const void *argument, void *result)
{
    int n = *(const int *)argument;

    *(int *)result = n * n;
    return 0;
}

int main(int argc, char **argv)
{
    covey_future *futures[10];
    covey_pool *pool;

    covey_main(argc, argv);
    check(covey_pool_open(&pool, .workers = 3));
    for (int i = 0; i < 10; i++) {
        int n = i + 1;

        check(covey_pool_submit(
            pool, &futures[i], square, COVEY_ARGUMENT(n), .result_size = sizeof(int)));
    }
    for (int i = 0; i < 10; i++) {
        int result;

        check(covey_future_get(futures[i], &result, COVEY_FOREVER));
        (void)printf("%d squared is %d\n", i + 1, result);
        check(covey_future_free(futures[i]));
    }
    check(covey_pool_free(pool));
    return EXIT_SUCCESS;
}
