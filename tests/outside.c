/* SPDX-License-Identifier: MIT */
/* A program outside of the tree, in strict C17. */
#include <covey.h>

#include <stdio.h>

static int square(const void *argument, void *result)
{
    int n = *(const int *)argument;

    *(int *)result = n * n;
    return 0;
}

int main(int argc, char **argv)
{
    int numbers[5] = {1, 2, 3, 4, 5};
    int squares[5];
    covey_pool *pool;

    covey_main(argc, argv);
    if (covey_pool_open(&pool, .workers = 2, .method = COVEY_SPAWN) != 0 ||
        covey_pool_map(pool, square, numbers, squares, 5) != 0 || covey_pool_free(pool) != 0) {
        fprintf(stderr, "%s\n", covey_error());
        return 1;
    }
    for (int i = 0; i < 5; i++)
        printf("%d%c", squares[i], i < 4 ? ' ' : '\n');
    return covey_close() != 0;
}
