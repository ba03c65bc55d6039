/* SPDX-License-Identifier: MIT */
/*
 * The pool. Its workers: V is one, and the rescuer is the owner. Its first task holds V until it is
 * traced; V's operation ends when it sleeps because there is nothing more to do. Its owner: V is
 * that, and with it all workers must end.
 */
#include "sweep.h"

#include "arena/family.h"
#include "os/clock.h"
#include "pool/pool.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ITEMS = 4,
    VALUE = 99, /* what a task that fails returns */
    WAIT_S = 4,
    OTHER_NS = 3 * CV_NS_PER_MS,
};

/* Told. */
enum {
    RUNS,                   /* how often item i was run: RUNS + i */
    MAY_END = RUNS + ITEMS, /* 1: the task that waits shall end */
    FUTURE,                 /* of the task in question */
    PHASE,                  /* which that had when V was killed */
    OTHER,                  /* the pid of the worker that is not V */
    OTHER_MAY_LOOK,
};

static covey_pool *pool;
static covey_future *future;

/* Tasks ***************************************************************************************** */

static int hold(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    sweep_begins();
    return 0;
}

static int square(const void *argument, void *result)
{
    int n = *(const int *)argument;

    sweep_tell(RUNS + (unsigned)n, sweep_told(RUNS + (unsigned)n) + 1);
    *(int *)result = n * n;
    return 0;
}

static int fail(const void *argument, void *result)
{
    (void)square(argument, result);
    return VALUE;
}

static int wait_to_end(const void *argument, void *result)
{
    while (!sweep_told(MAY_END))
        cv_clock_sleep(CV_NS_PER_MS);
    return square(argument, result);
}

/* Workers *************************************************************************************** */

/* S: V is the only worker. */
static void open_for_victim(void)
{
    check_int(covey_pool_open(&pool, .workers = 1, .method = COVEY_FORK), ==, 0);
    check_int(covey_pool_submit(pool, &future, hold), ==, 0);
}

/* W: V has said which pid it has. */
static pid_t find_victim(void)
{
    while (!sweep_victim_pid())
        cv_clock_sleep(CV_NS_PER_MS);
    return sweep_victim_pid();
}

/* What is known of the task when V is killed. */
static void look(void)
{
    const covey_future *f = (const covey_future *)(uintptr_t)sweep_told(FUTURE); /* NOLINT */

    if (!f)
        return;
    sweep_tell(PHASE, cv_entry_phase(cv_load_acquire(&f->state)));
}

static void submit(int item, covey_task *task)
{
    check_int(
        covey_pool_submit(pool, &future, task, COVEY_ARGUMENT(item), .result_size = sizeof(int)),
        ==, 0);
    sweep_tell(FUTURE, (uintptr_t)future);
}

/* The task that V had taken, and not finished, has failed with it; else it is done, once. */
static void await(unsigned item, int right)
{
    struct covey_outcome outcome = {0};
    int result = 0;
    int r = covey_future_get(future, &result, COVEY_FOREVER);

    check_int(covey_future_outcome(future, &outcome), ==, 0);
    if (sweep_told(PHASE) == CV_ENTRY_CLAIMED && !sweep_was_stalled())
        check_int(r, ==, COVEY_EDIED);
    else
        check(r == right || (r == COVEY_EDIED && !sweep_victim_finished()));
    if (r == COVEY_EDIED)
        check_int(outcome.pid, ==, sweep_victim_pid());
    else
        check_int(sweep_told(RUNS + item), ==, 1);
    if (r == COVEY_ETASK)
        check_int(outcome.value, ==, VALUE);
    if (r == 0)
        check_int((unsigned)result, ==, item * item);
    check_int(covey_future_free(future), ==, 0);
}

/* V is dead: the pool is whole, and its memory goes with it. */
static void use_and_free(void)
{
    sweep_wait_for_death();
    sweep_tell(FUTURE, 0);
    sweep_tell(PHASE, 0);
    submit(0, square);
    check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

static void run_one(void)
{
    submit(2, square);
    await(2, 0);
    use_and_free();
}

OPERATION(pool_worker, .prepare = open_for_victim, .begin = find_victim, .look = look,
    .ends_asleep = true, .rescue = run_one, .when = RESCUE_SLEEPS_FIRST, .no_stall = true,
    .is_slow = true, .proves = "pool_lost_task pool_replace");

OPERATION(pool_worker_woken, .prepare = open_for_victim, .begin = find_victim, .look = look,
    .ends_asleep = true, .rescue = run_one, .when = RESCUE_SLEEPS_LATE, .only_kill = true,
    .is_slow = true);

static void wait_for_one(void)
{
    struct covey_waited thing = {.kind = COVEY_WAIT_FUTURE};

    submit(2, square);
    thing.object = future;
    check_int(covey_wait(&thing, 1, COVEY_FOREVER), ==, 1);
    await(2, 0);
    use_and_free();
}

OPERATION(pool_worker_waited, .prepare = open_for_victim, .begin = find_victim, .look = look,
    .ends_asleep = true, .rescue = wait_for_one, .when = RESCUE_SLEEPS_FIRST, .no_stall = true,
    .is_slow = true);

/* Two that hang on one alarm, which tells of V as for one. */
static void wait_for_two(void)
{
    struct covey_waited things[] = {{.kind = COVEY_WAIT_FUTURE}, {.kind = COVEY_WAIT_FUTURE}};

    submit(2, square);
    things[0].object = things[1].object = future;
    check_int(covey_wait(things, 2, COVEY_FOREVER), ==, 2);
    await(2, 0);
    use_and_free();
}

OPERATION(pool_worker_waited_twice, .prepare = open_for_victim, .begin = find_victim, .look = look,
    .ends_asleep = true, .rescue = wait_for_two, .when = RESCUE_SLEEPS_FIRST, .no_stall = true,
    .is_slow = true);

static void run_failing(void)
{
    submit(2, fail);
    await(2, COVEY_ETASK);
    use_and_free();
}

OPERATION(pool_worker_fails, .prepare = open_for_victim, .begin = find_victim, .look = look,
    .ends_asleep = true, .rescue = run_failing, .when = RESCUE_SLEEPS_FIRST, .no_stall = true,
    .is_slow = true, .proves = "pool_outcome");

/* A chunk of items, of which at most the one that V was running is lost. */
static void run_chunk(void)
{
    int arguments[ITEMS] = {0, 1, 2, 3};
    int results[ITEMS] = {0};
    struct covey_outcome outcomes[ITEMS] = {{0}};
    int lost = 0;
    int r = covey_pool_map(
        pool, square, arguments, results, ITEMS, .chunk = ITEMS, .outcomes = outcomes);

    check(r == 0 || r == COVEY_EDIED);
    for (unsigned i = 0; i < ITEMS; i++) {
        check(outcomes[i].code == 0 || outcomes[i].code == COVEY_EDIED);
        lost += outcomes[i].code != 0;
        check_int(sweep_told(RUNS + i), <=, 1);
        if (outcomes[i].code == 0)
            check_int((unsigned)results[i], ==, i * i);
    }
    check_int(lost, <=, !sweep_victim_finished());
    check_int(lost, ==, r == COVEY_EDIED);
    for (unsigned i = 0; i < ITEMS; i++)
        sweep_tell(RUNS + i, 0);
    use_and_free();
}

OPERATION(pool_worker_chunk, .prepare = open_for_victim, .begin = find_victim, .ends_asleep = true,
    .rescue = run_chunk, .when = RESCUE_SLEEPS_FIRST, .no_stall = true, .is_slow = true,
    .proves = "pool_rest pool_lost_task pool_replace");

/* Another worker, who is busy until V is about to be killed, looks for tasks then: where V's was, and
 * will be again, there is none. */
static int hold_other(const void *argument, void *result)
{
    sweep_tell(OTHER, (uint64_t)getpid());
    (void)argument;
    (void)result;
    while (!sweep_told(OTHER_MAY_LOOK))
        cv_clock_sleep(CV_NS_PER_MS);
    return 0;
}

static void open_for_two(void)
{
    check_int(covey_pool_open(&pool, .workers = 2, .method = COVEY_FORK), ==, 0);
    check_int(covey_pool_submit(pool, &future, hold), ==, 0);
    check_int(covey_pool_submit(pool, &future, hold_other), ==, 0);
    while (!sweep_told(OTHER))
        cv_clock_sleep(CV_NS_PER_MS);
}

static void let_other_look(void)
{
    sweep_tell(OTHER_MAY_LOOK, 1);
    cv_clock_sleep(OTHER_NS);
    sweep_wait_asleep((pid_t)sweep_told(OTHER));
}

OPERATION(pool_worker_of_two, .prepare = open_for_two, .begin = find_victim, .look = let_other_look,
    .ends_asleep = true, .rescue = run_chunk, .when = RESCUE_SLEEPS_FIRST, .no_stall = true,
    .is_slow = true, .proves = "pool_head");

/* The owner ************************************************************************************* */

/* V: a pool whose worker is at work. */
static void open_pool(void)
{
    check_int(covey_pool_open(&pool, .workers = 1, .method = COVEY_FORK), ==, 0);
    submit(0, square);
    check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, 0);
    check_int(covey_future_free(future), ==, 0);
}

static void bury_and_use(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    sweep_use_heap();
}

static void workers_end(void)
{
    double end_s = (double)cv_clock_now() / 1e9 + WAIT_S;
    pid_t worker;

    while ((worker = sweep_orphan()) != 0) {
        check((double)cv_clock_now() / 1e9 < end_s);
        if (waitpid(worker, NULL, WNOHANG) == 0)
            cv_clock_sleep(CV_NS_PER_MS);
    }
}

static void submit_large(void)
{
    unsigned char argument[200] = {1};

    check_int(covey_pool_submit(
                  pool, &future, square, COVEY_ARGUMENT(argument), .result_size = sizeof(int)),
        ==, 0);
}

OPERATION(pool_open, .victim = open_pool, .rescue = bury_and_use, .verify = workers_end,
    .only_kill = true, .is_slow = true);

OPERATION(pool_submit, .warm = open_pool, .victim = submit_large, .rescue = bury_and_use,
    .verify = workers_end, .is_slow = true);

static void have_future(void)
{
    open_pool();
    submit(2, wait_to_end);
    if (!sweep_told(MAY_END)) /* it has slept before, always: the first time is another path */
        check_int(covey_future_get(future, NULL, 0.01), ==, COVEY_ETIMEDOUT);
}

static bool let_end(void)
{
    sweep_tell(MAY_END, 1);
    return true;
}

static void get_result(void)
{
    int result = 0;

    check_int(covey_future_get(future, &result, COVEY_FOREVER), ==, 0);
    check_int(result, ==, 4);
}

OPERATION(pool_get_asleep, .warm = have_future, .victim = get_result, .unblock = let_end,
    .rescue = bury_and_use, .verify = workers_end, .is_slow = true);

static void have_result(void)
{
    sweep_tell(MAY_END, 1);
    have_future();
    get_result();
}

static void free_future(void)
{
    check_int(covey_future_free(future), ==, 0);
}

OPERATION(pool_future_free, .warm = have_result, .victim = free_future, .rescue = bury_and_use,
    .verify = workers_end, .is_slow = true);

static void map(void)
{
    int arguments[ITEMS] = {0, 1, 2, 3};
    int results[ITEMS] = {0};

    check_int(covey_pool_map(pool, square, arguments, results, ITEMS, .chunk = 2), ==, 0);
}

OPERATION(pool_map, .warm = open_pool, .victim = map, .rescue = bury_and_use, .verify = workers_end,
    .only_kill = true, .is_slow = true);

static void close_pool(void)
{
    check_int(covey_pool_close(pool), ==, 0);
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
}

OPERATION(pool_close, .warm = open_pool, .victim = close_pool, .rescue = bury_and_use,
    .verify = workers_end, .only_kill = true, .is_slow = true);

static void free_pool(void)
{
    check_int(covey_pool_free(pool), ==, 0);
}

OPERATION(pool_free, .warm = open_pool, .victim = free_pool, .rescue = bury_and_use,
    .verify = workers_end, .only_kill = true, .is_slow = true);
