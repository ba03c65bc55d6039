/* SPDX-License-Identifier: MIT */
/*
 * A pool of three processes squares the numbers 1 to 10, all with one call. Prints one line for
 * each, in order.
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
    int numbers[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    int squares[10];
    covey_pool *pool;

    covey_main(argc, argv);
    check(covey_pool_open(&pool, .workers = 3));
    check(covey_pool_map(pool, square, numbers, squares, 10));
    for (int i = 0; i < 10; i++)
        (void)printf("%d squared is %d\n", numbers[i], squares[i]);
    check(covey_pool_free(pool));
    return EXIT_SUCCESS;
}
