/* SPDX-License-Identifier: MIT */
/*
 * A pool of a worker's own, and tasks for it.
 *
 * Each task notes who begins it and that it is done. It is begun once at most; if it has succeeded it was
 * done, once, and its result is right; if it has failed, then with its pool worker, which the killer has
 * killed or the deadline, and the pid is that of the one that had begun it. When the owner is killed its
 * pool goes with it: no process and no block of it is left at the end of the round.
 */
#include "soak.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum {
    TASKS = 16,
    WORKERS_MAX = 3,
    CHUNK_MAX = 4,
    FRESH_ONCE_IN = 8, /* pool workers that are no forks */
    MAP_ONCE_IN = 2,
    LATE_ONCE_IN = 32,
    LATE_MS = 20,
    FOREVER_US = 60000000,
};

struct task {
    uint32_t begun;
    uint32_t done;
    uint32_t pid;
};

struct pools {
    struct task task[LIVES_MAX][TASKS];
};

/* The argument of a task. */
struct job {
    struct task *task;
    uint64_t number;
    uint64_t us;
};

static void *set_up(void)
{
    struct pools *pools = covey_calloc(1, sizeof *pools);

    check(pools != NULL);
    return pools;
}

/* In a pool worker. What it fails of, its owner finds. */
static int run_job(const void *argument, void *result)
{
    const struct job *job = argument;

    cv_store_seq(&job->task->pid, (uint32_t)getpid());
    if (cv_fetch_add(&job->task->begun, 1) != 0)
        return 1;
    if (job->us)
        (void)usleep((useconds_t)job->us);
    *(uint64_t *)result = job->number * job->number;
    (void)cv_fetch_add(&job->task->done, 1);
    return 0;
}

static struct job prepare(struct task *task, bool is_late)
{
    struct job job = {task, soak_random(UINT64_MAX), 0};

    memset(task, 0, sizeof *task);
    if (is_late)
        job.us = FOREVER_US;
    else if (soak_chance(2))
        job.us = soak_random(2000);
    return job;
}

static void check_failed(const struct job *job, const struct covey_outcome *o)
{
    uint32_t pid = cv_load_seq(&job->task->pid);

    if (pid) /* it had begun */
        check_int(o->pid, ==, pid);
    if (o->code == COVEY_EDEADLINE && job->us == FOREVER_US)
        return;
    check_int(o->code, ==, COVEY_EDIED);
    if (!soak_was_killed(o->pid))
        test_fail(__FILE__, __LINE__, "pool: a task failed with worker %d, who was not killed",
            (int)o->pid);
    check_int(o->exit_code, ==, -SIGKILL);
    soak_told(&soak_pool);
}

static void check_outcome(
    const struct job *job, const struct covey_outcome *o, const uint64_t *result)
{
    check_int(cv_load_seq(&job->task->begun), <=, 1);
    if (o->code != 0) {
        check_failed(job, o);
        return;
    }
    check_int(cv_load_seq(&job->task->begun), ==, 1);
    check_int(cv_load_seq(&job->task->done), ==, 1);
    check(*result == job->number * job->number);
}

static void submit_all(covey_pool *pool, struct task *tasks)
{
    covey_future *future[TASKS];
    struct job job[TASKS];
    struct covey_outcome outcome;
    uint64_t result;

    for (unsigned i = 0; i < TASKS; i++) {
        bool is_late = soak_chance(LATE_ONCE_IN);

        job[i] = prepare(&tasks[i], is_late);
        check_int(covey_pool_submit(pool, &future[i], run_job, COVEY_ARGUMENT(job[i]),
                      .result_size = sizeof result, .timeout_s = is_late ? LATE_MS / 1e3 : 0),
            ==, 0);
    }
    for (unsigned i = 0; i < TASKS; i++) {
        int r = covey_future_get(future[i], &result, COVEY_FOREVER);

        check_int(covey_future_outcome(future[i], &outcome), ==, 0);
        check_int(outcome.code, ==, r);
        check_outcome(&job[i], &outcome, &result);
        check_int(covey_future_free(future[i]), ==, 0);
    }
}

static void map_all(covey_pool *pool, struct task *tasks)
{
    struct job job[TASKS];
    struct covey_outcome outcomes[TASKS];
    uint64_t results[TASKS] = {0};
    int first = 0;
    int r;

    for (unsigned i = 0; i < TASKS; i++)
        job[i] = prepare(&tasks[i], false);
    r = covey_pool_map(pool, run_job, job, results, TASKS,
        .chunk = 1 + (size_t)soak_random(CHUNK_MAX), .outcomes = outcomes);
    for (unsigned i = 0; i < TASKS; i++) {
        check_outcome(&job[i], &outcomes[i], &results[i]);
        if (first == 0)
            first = outcomes[i].code;
    }
    check_int(r, ==, first);
}

static enum covey_method random_method(void)
{
    if (!soak_chance(FRESH_ONCE_IN))
        return COVEY_FORK;
    return soak_chance(2) ? COVEY_SPAWN : COVEY_FORKSERVER;
}

static void work(void *state)
{
    struct task *tasks = ((struct pools *)state)->task[soak_me];
    covey_pool *pool = NULL;

    check_int(covey_pool_open(&pool, .workers = 1 + (unsigned)soak_random(WORKERS_MAX),
                  .method = random_method()),
        ==, 0);
    for (uint64_t n = 1 + soak_random(3); n > 0; n--) {
        if (soak_chance(MAP_ONCE_IN))
            map_all(pool, tasks);
        else
            submit_all(pool, tasks);
    }
    if (soak_chance(2)) {
        check_int(covey_pool_close(pool), ==, 0);
        check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    }
    check_int(covey_pool_free(pool), ==, 0);
}

/* One who is at a task. */
static pid_t helper(void *state, uint32_t life)
{
    struct task *tasks = ((struct pools *)state)->task[life];
    uint64_t first = soak_random(TASKS);

    for (unsigned i = 0; i < TASKS; i++) {
        struct task *t = &tasks[(first + i) % TASKS];

        if (cv_load_seq(&t->begun) && !cv_load_seq(&t->done))
            return (pid_t)cv_load_seq(&t->pid);
    }
    return 0;
}

static void finish(void *state)
{
    check_int(covey_free(state), ==, 0);
}

const struct scenario soak_pool = {
    "pool", .set_up = set_up, .work = work, .finish = finish, .helper = helper, .is_slow = true};
