/* SPDX-License-Identifier: MIT */
/**
 * covey/pool.h - a pool of worker processes
 *
 * The process that opens a pool is its owner: it alone submits tasks and collects results, from any
 * of its threads. Workers take tasks by themselves, in the order of submission. A worker that dies
 * takes its own task with it: that one fails, with the pid and the signal or exit code; the worker
 * is replaced, and all other tasks are done.
 *
 * The owner looks after the workers in its calls: in submit, map, join, in getting a future and
 * asking whether it is ready, and as long as it waits for futures in covey_wait() or has a descriptor
 * of one (covey_future_fd()). A pool whose owner does none of these for a while may have fewer
 * workers, or none, until it does; deadlines hold meanwhile.
 *
 * Workers are daemons of the owner: they end with it, however it ends.
 */
#ifndef COVEY_POOL_H
#define COVEY_POOL_H

#include <covey/process.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_pool covey_pool;
typedef struct covey_future covey_future;

/**
 * covey_task - what a worker runs
 * @argument: a copy of the argument, or the item of the array that is mapped
 * @result: where the result goes; zero before, unless it lies in the caller's own array in the
 *          arena; NULL when there is none (no result_size, no results)
 *
 * The function must lie in the program or in a shared library that the workers can load, whatever
 * the start method.
 *
 * An end of a pipe that is given in an argument, and used, is held by the worker (covey/pipe.h) also after
 * the task, until the worker ends, unless the task closes it.
 *
 * Returns 0, or any other value to fail: the caller then gets COVEY_ETASK, with that value.
 */
typedef int covey_task(const void *argument, void *result);

/** struct covey_outcome - how a task has ended */
struct covey_outcome {
    int code;      /* 0; COVEY_ETASK; COVEY_EDIED; COVEY_EDEADLINE; COVEY_ECLOSED: it never ran */
    int value;     /* ETASK: what the function returned */
    pid_t pid;     /* EDIED, EDEADLINE: the worker */
    int exit_code; /* EDIED: its exit code, or negative signal number */
};

/** struct covey_pool_options - how to open a pool; zero means the default */
struct covey_pool_options {
    size_t size;       /* sizeof(struct covey_pool_options) */
    covey_pool **pool; /* out: the new pool */
    unsigned workers;  /* how many; default: covey_cpu_count(); at most 1024 */
    const char *name;  /* workers are called NAME-0, NAME-1, ...; up to 55 bytes; default: "pool" */
    enum covey_method method;
};

/** struct covey_submit_options - a task to run; zero means the default */
struct covey_submit_options {
    size_t size; /* sizeof(struct covey_submit_options) */
    covey_pool *pool;
    covey_future **future; /* out: the future */
    covey_task *task;
    const void *argument; /* copied, */
    size_t argument_size; /* this many bytes */
    size_t result_size;   /* bytes of the result; argument and result are less than 4 GiB each */
    double timeout_s;     /* the worker is killed when the task has run so long; 0: never */
};

/** struct covey_map_options - tasks over an array; zero means the default */
struct covey_map_options {
    size_t size; /* sizeof(struct covey_map_options) */
    covey_pool *pool;
    covey_task *task;
    const void *arguments; /* an array; used in place if it lies in the arena, else copied */
    void *results;         /* an array, likewise; NULL: there are none */
    size_t count;          /* items in each */
    size_t argument_size;  /* bytes of an item of arguments */
    size_t result_size;    /* bytes of an item of results */
    size_t chunk;          /* items that a worker takes at once; default: by count and workers */
    double timeout_s;      /* for each item, as in covey_submit_options */
    struct covey_outcome *outcomes; /* an array of @count, filled; NULL: not wanted */
};

/**
 * covey_pool_open() - open a pool
 *
 *     covey_pool *pool;
 *     covey_pool_open(&pool, .workers = 3);
 *
 * Starts the workers, and does not wait for them to be ready.
 *
 * Returns 0 with the pool in *pool; COVEY_EINVAL; the codes of covey_process_start().
 */
COVEY_API int covey_pool_open_with(const struct covey_pool_options *options);

/**
 * covey_pool_submit() - have a task done
 *
 *     covey_pool_submit(pool, &future, square, COVEY_ARGUMENT(number), .result_size = sizeof(int));
 *
 * Does not wait. The queue of tasks grows as long as there is memory.
 *
 * Returns 0 with the future in *future, to be given to covey_future_free() one day; COVEY_ECLOSED;
 * COVEY_ENOTOWNER; COVEY_EINVAL, also for a negative timeout; COVEY_ETOOBIG; COVEY_ENOMEM; when no
 * worker is left and none can be started, what keeps it from that (COVEY_EDIED, COVEY_ELIMIT, ...).
 */
COVEY_API int covey_pool_submit_with(const struct covey_submit_options *options);

/**
 * covey_pool_map() - run a task on each item of an array
 *
 *     int numbers[5] = {1, 2, 3, 4, 5}, squares[5];
 *     covey_pool_map(pool, square, numbers, squares, 5);
 *
 * The macro takes the sizes of the items from the arrays' types. Waits until all are done. If some
 * fail, the others are done nevertheless; what the failed ones left in results is not defined.
 *
 * Returns 0 if all succeeded, else the code of the failed item with the lowest index, which the
 * message names; the codes of covey_pool_submit() when the items cannot be done; COVEY_EINTR (see
 * covey_on_interrupt()), after which tasks that have begun may still write to results and read
 * arguments if these lie in the arena, until the pool is freed.
 */
COVEY_API int covey_pool_map_with(const struct covey_map_options *options);

/**
 * covey_future_get() - wait for a task and get its result
 * @future: the future
 * @result: where the result goes, result_size bytes; NULL: not wanted
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * May be called again, and by several threads.
 *
 * Returns 0; the task's failure: COVEY_ETASK, COVEY_EDIED, COVEY_EDEADLINE, COVEY_ECLOSED (the pool
 * was terminated); COVEY_ETIMEDOUT; COVEY_EINTR; COVEY_ENOTOWNER; COVEY_EINVAL, also for a result
 * that the task has not (result_size 0).
 */
COVEY_API int covey_future_get(covey_future *future, void *result, double timeout_s);

/** covey_future_is_ready() - 1 if the task has ended, 0 if not; COVEY_ENOTOWNER, COVEY_EINVAL */
COVEY_API int covey_future_is_ready(covey_future *future);

/**
 * covey_future_fd() - a descriptor for poll(), epoll and the like
 *
 * It is readable when the task may have ended: covey_future_is_ready(), or covey_future_get() with a timeout
 * of 0, tells, and makes it unreadable again if it has not. All else is as for covey_queue_fd().
 *
 * Returns the descriptor; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_future_fd(covey_future *future);

/** covey_future_fd_close() - close it; done by covey_future_free(), too; returns as that */
COVEY_API int covey_future_fd_close(covey_future *future);

/**
 * covey_future_outcome() - how the task has ended, in detail
 *
 * Returns 0 with *outcome filled; COVEY_ESTATE when it has not; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_future_outcome(covey_future *future, struct covey_outcome *outcome);

/**
 * covey_future_free() - give a future back; NULL does nothing
 *
 * A task that has not ended is done nevertheless, and its result thrown away.
 *
 * Returns 0; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_future_free(covey_future *future);

/**
 * covey_pool_close() - no more tasks
 *
 * Those that have been submitted are done; then the workers end. Does not wait.
 * Returns 0; COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_pool_close(covey_pool *pool);

/**
 * covey_pool_terminate() - end the workers now
 *
 * Tasks that are running are killed with their workers; those and all that have not begun fail with
 * COVEY_ECLOSED. Waits only for the kernel to end the workers.
 *
 * Returns 0; COVEY_ESYS when this process may not kill a worker, whose task has changed its user id
 * (the pool stays, and can be terminated later); COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_pool_terminate(covey_pool *pool);

/**
 * covey_pool_join() - after closing, wait until all tasks are done and the workers have ended
 *
 * Returns 0; COVEY_ESTATE when the pool is not closed; COVEY_ETIMEDOUT; COVEY_EINTR;
 * COVEY_ENOTOWNER; COVEY_EINVAL.
 */
COVEY_API int covey_pool_join(covey_pool *pool, double timeout_s);

/**
 * covey_pool_free() - end the pool and free it, with all its futures; NULL does nothing
 *
 * Terminates it if it is still open. No other thread may be using it. Returns as terminate.
 */
COVEY_API int covey_pool_free(covey_pool *pool);

/** covey_pool_workers() - how many workers the pool has; COVEY_EINVAL */
COVEY_API int covey_pool_workers(covey_pool *pool);

#ifndef __cplusplus
/* covey_pool_open(&pool, .OPTION = VALUE, ...) */
#define covey_pool_open(...)                                                                       \
    covey_pool_open_with(&(struct covey_pool_options){                                             \
        .size = sizeof(struct covey_pool_options), .pool = __VA_ARGS__})

/* covey_pool_submit(pool, &future, task, COVEY_ARGUMENT(variable), .OPTION = VALUE, ...) */
#define covey_pool_submit(...)                                                                     \
    covey_pool_submit_with(&(struct covey_submit_options){                                         \
        .size = sizeof(struct covey_submit_options), .pool = __VA_ARGS__})

/* The size of what @p points to; 1 for NULL. */
#define COVEY_SIZE_AT_(p)                                                                          \
    (sizeof *_Generic((p), void * : (char *)0, const void * : (char *)0, default : (p)))

/* covey_pool_map(pool, task, arguments, results, count, .OPTION = VALUE, ...) */
#define covey_pool_map(pool_, task_, arguments_, results_, ...)                                    \
    covey_pool_map_with(&(struct covey_map_options){.size = sizeof(struct covey_map_options),      \
        .argument_size = COVEY_SIZE_AT_(arguments_),                                               \
        .result_size = COVEY_SIZE_AT_(results_),                                                   \
        .pool = (pool_),                                                                           \
        .task = (task_),                                                                           \
        .arguments = (arguments_),                                                                 \
        .results = (results_),                                                                     \
        .count = __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
