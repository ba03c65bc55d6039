/* SPDX-License-Identifier: MIT */
/*
 * Waiting for many children takes as long as the longest of them, not as long as all together.
 * Five sleep for 100, 200, ... 500 ms. Prints whether the joins took about 500 ms, and less than
 * the sum of 1500 ms; the time itself goes to stderr.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int sleep_ms(void *argument)
{
    (void)usleep((useconds_t)(*(int *)argument * 1000));
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *children[5];
    double start;
    double took;

    covey_main(argc, argv);
    start = now_s();
    for (int i = 0; i < 5; i++) {
        int ms = (i + 1) * 100;

        check(covey_process_start(&children[i], sleep_ms, COVEY_ARGUMENT(ms)));
    }
    for (int i = 0; i < 5; i++)
        check(covey_process_join(children[i], COVEY_FOREVER));
    took = now_s() - start;
    for (int i = 0; i < 5; i++)
        check(covey_process_close(children[i]));
    (void)printf("5 joins took as long as the longest child: %s\n",
        took >= 0.499 && took < 1.4 ? "yes" : "no");
    (void)fprintf(stderr, "%.3f s\n", took);
    return EXIT_SUCCESS;
}
