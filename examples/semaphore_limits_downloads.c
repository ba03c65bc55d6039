/* SPDX-License-Identifier: MIT */
/*
 * Ten workers, started in all three ways, want to download something, and no more than three may do so
 * at once: each takes a permit of a semaphore before, and gives it back afterwards. Each prints who is
 * active when it begins. One of them is killed while it downloads: its permit comes back.
 */
#include <covey.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    WORKERS = 10,
    AT_ONCE = 3,
    UNLUCKY = 4, /* this one is killed */
};

struct pool {
    covey_semaphore permits;
    covey_lock lock;
    int is_active[WORKERS];
};

struct job {
    struct pool *pool;
    int number;
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

static void set_active(struct pool *pool, int number, int is_active)
{
    check(covey_lock_acquire(&pool->lock, COVEY_FOREVER));
    pool->is_active[number] = is_active;
    if (is_active) {
        (void)printf("active:");
        for (int i = 0; i < WORKERS; i++) {
            if (pool->is_active[i])
                (void)printf(" %d", i);
        }
        (void)printf("\n");
        (void)fflush(stdout);
    }
    check(covey_lock_release(&pool->lock));
}

static int download(void *argument)
{
    struct job *job = argument;

    check(covey_semaphore_acquire(&job->pool->permits, COVEY_FOREVER));
    set_active(job->pool, job->number, 1);
    (void)usleep(20 * 1000);
    set_active(job->pool, job->number, 0);
    if (job->number == UNLUCKY)
        (void)raise(SIGKILL);
    check(covey_semaphore_release(&job->pool->permits));
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *workers[WORKERS];
    struct pool *pool;

    covey_main(argc, argv);
    pool = covey_calloc(1, sizeof *pool);
    if (!pool)
        fail();
    check(covey_semaphore_init(&pool->permits, AT_ONCE, COVEY_BOUNDED));
    check(covey_lock_init(&pool->lock));
    for (int i = 0; i < WORKERS; i++)
        check(covey_process_start(&workers[i], download, COVEY_ARGUMENT((struct job){pool, i}),
            .method = (enum covey_method)(COVEY_FORK + i % 3)));
    for (int i = 0; i < WORKERS; i++) {
        check(covey_process_join(workers[i], COVEY_FOREVER));
        check(covey_process_close(workers[i]));
    }
    (void)printf("%ld permits are free\n", covey_semaphore_value(&pool->permits));
    check(covey_semaphore_destroy(&pool->permits));
    check(covey_lock_destroy(&pool->lock));
    check(covey_free(pool));
    return EXIT_SUCCESS;
}
