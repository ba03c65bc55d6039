// SPDX-License-Identifier: MIT
// A program outside of the tree, in strict C++17: the option structs instead of the macros.
#include <covey.h>

#include <cstdio>

static int square(const void *argument, void *result)
{
    int n = *static_cast<const int *>(argument);

    *static_cast<int *>(result) = n * n;
    return 0;
}

int main(int argc, char **argv)
{
    int numbers[5] = {1, 2, 3, 4, 5};
    int squares[5] = {};
    covey_pool *pool = nullptr;
    covey_pool_options options = {};
    covey_map_options map = {};

    covey_main(argc, argv);
    options.size = sizeof options;
    options.pool = &pool;
    options.workers = 2;
    options.method = COVEY_FORKSERVER;
    if (covey_pool_open_with(&options) != 0)
        return 1;
    map.size = sizeof map;
    map.pool = pool;
    map.task = square;
    map.arguments = numbers;
    map.results = squares;
    map.count = 5;
    map.argument_size = map.result_size = sizeof(int);
    if (covey_pool_map_with(&map) != 0 || covey_pool_free(pool) != 0) {
        std::fprintf(stderr, "%s\n", covey_error());
        return 1;
    }
    for (int i = 0; i < 5; i++)
        std::printf("%d%c", squares[i], i < 4 ? ' ' : '\n');
    return covey_close() != 0;
}
