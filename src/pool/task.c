/* SPDX-License-Identifier: MIT */
/* Submitting tasks and collecting what became of them: the owner's side. */
#include "pool/pool.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/options.h"
#include "proc/function.h"
#include "sync/any.h"
#include "sync/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNKS_PER_WORKER = 4
};

#define COUNT_MAX UINT32_MAX /* items in a chunk */
#define ITEM_MAX  UINT32_MAX /* bytes of an item */

static void lock(covey_pool *pool)
{
    (void)pthread_mutex_lock(&pool->private->lock);
}

static void unlock(covey_pool *pool)
{
    (void)pthread_mutex_unlock(&pool->private->lock);
}

/* With the lock held: may tasks be submitted? */
static int check_open(covey_pool *pool)
{
    if (pool->private->broken && !cv_pool_has_workers(pool))
        return cv_fail(pool->private->broken, "the pool is broken: %s", pool->private->message);
    return pool->give.phase == CV_POOL_OPEN ? 0 : cv_fail(COVEY_ECLOSED, "the pool is closed");
}

static int check_timeout(double timeout_s, uint64_t *ns)
{
    uint64_t years = UINT64_C(6311520000); /* 200 */

    if (timeout_s != timeout_s || timeout_s < 0)
        return cv_fail(COVEY_EINVAL, "timeout_s is %g", timeout_s);
    *ns = timeout_s > (double)years ? 0 : (uint64_t)(timeout_s * CV_NS_PER_S);
    if (timeout_s > 0 && *ns == 0 && timeout_s < 1)
        *ns = 1;
    return 0;
}

/* Submit ************************************************************************************* */

/*
 * Result and argument, in the entry itself or in a block. What has 16 bytes and more may need their
 * alignment, which the entry does not give.
 */
static int place_bytes(struct covey_future *entry, const struct covey_submit_options *o)
{
    bool fits = o->result_size < 16 && o->argument_size < 16 &&
                (o->result_size + 7) / 8 * 8 + o->argument_size <= CV_INLINE_BYTES;
    size_t behind = fits ? (o->result_size + 7) / 8 * 8 : (o->result_size + 15) / 16 * 16;
    char *bytes = entry->bytes;

    if (!fits) {
        bytes = cv_heap_alloc(behind + o->argument_size, 16, cv_tag_short(cv_self.tag));
        if (!bytes)
            return covey_error_code();
        entry->has_block = 1;
        entry->block = bytes;
    }
    entry->result = o->result_size ? bytes : NULL;
    entry->argument = o->argument_size ? bytes + behind : NULL;
    if (o->result_size)
        memset(bytes, 0, o->result_size);
    if (o->argument_size)
        memcpy(bytes + behind, o->argument, o->argument_size);
    return 0;
}

static int submit_locked(const struct covey_submit_options *o, uint64_t function, uint64_t ns)
{
    struct covey_future *entry;
    int r;

    cv_pool_tend_next(o->pool);
    r = check_open(o->pool);
    if (r != 0)
        return r;
    entry = cv_pool_new_entry(o->pool);
    if (!entry)
        return covey_error_code();
    entry->function = function;
    entry->argument_size = (uint32_t)o->argument_size;
    entry->result_size = (uint32_t)o->result_size;
    entry->count = 1;
    entry->timeout_ns = ns;
    r = place_bytes(entry, o);
    if (r != 0)
        return r;
    cv_pool_publish(o->pool, entry);
    *o->future = entry;
    return 0;
}

int covey_pool_submit_with(const struct covey_submit_options *options)
{
    struct covey_submit_options o;
    uint64_t function = 0;
    uint64_t ns = 0;
    int r = cv_options_read(&o, sizeof o, options, "covey_submit_options");

    if (r == 0)
        r = cv_pool_check(o.pool);
    if (r != 0)
        return r;
    if (!o.future || !o.task)
        return cv_fail(COVEY_EINVAL, "%s is NULL", o.task ? "future" : "task");
    if (!o.argument != !o.argument_size)
        return cv_fail(COVEY_EINVAL, "argument is %s, with a size of %zu bytes",
            o.argument ? "given" : "NULL", o.argument_size);
    if (o.argument_size > ITEM_MAX || o.result_size > ITEM_MAX)
        return cv_fail(COVEY_ETOOBIG, "an argument of %zu bytes and a result of %zu: at most %u",
            o.argument_size, o.result_size, ITEM_MAX);
    r = check_timeout(o.timeout_s, &ns);
    if (r == 0)
        r = cv_function_export((cv_any_function *)(uintptr_t)o.task, &function);
    if (r != 0)
        return r;
    lock(o.pool);
    r = submit_locked(&o, function, ns);
    unlock(o.pool);
    return r;
}

/* Futures ************************************************************************************ */

static int check(struct covey_future *f)
{
    int r = cv_enter();
    enum cv_entry_phase phase;

    if (r != 0)
        return r;
    if (!cv_arena_has(f, sizeof *f, CV_LINE) || cv_pool_check(f->pool) == COVEY_EINVAL)
        return cv_fail_object(f, "future");
    r = cv_pool_check(f->pool);
    if (r != 0)
        return r;
    phase = cv_entry_phase(cv_load_acquire(&f->state));
    if (phase == CV_ENTRY_EMPTY || phase == CV_ENTRY_FREED || f->is_abandoned)
        return cv_fail(COVEY_EINVAL, "future %p was freed", (void *)f);
    return 0;
}

static int fail_with(const struct covey_outcome *outcome, const char *what)
{
    switch (outcome->code) {
    case COVEY_ETASK:
        return cv_fail(COVEY_ETASK, "%s returned %d", what, outcome->value);
    case COVEY_EDEADLINE:
        return cv_fail(COVEY_EDEADLINE,
            "%s ran past its deadline, and its worker (pid %d) was killed", what,
            (int)outcome->pid);
    case COVEY_ECLOSED:
        return cv_fail(COVEY_ECLOSED, "%s was not done: the pool was terminated", what);
    case COVEY_EDIED:
        return outcome->exit_code < 0
                   ? cv_fail(COVEY_EDIED, "%s died with its worker (pid %d), killed by signal %d",
                         what, (int)outcome->pid, -outcome->exit_code)
                   : cv_fail(COVEY_EDIED, "%s died with its worker (pid %d), which exited with %d",
                         what, (int)outcome->pid, outcome->exit_code);
    default:
        return outcome->code ? cv_fail(outcome->code, "%s could not be run by a worker (%s)", what,
                                   covey_strerror(outcome->code))
                             : 0;
    }
}

int covey_future_get(covey_future *future, void *result, double timeout_s)
{
    struct cv_wait wait;
    int r = check(future);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, future, CV_FUTURE);
    if (r != 0)
        return r;
    r = cv_pool_await(future, &wait);
    cv_wait_end(&wait);
    if (r == COVEY_ETIMEDOUT) {
        cv_watch_arm(future);
        return cv_fail(r, "the task has not ended within %g s", timeout_s);
    }
    if (r != 0)
        return r;
    if (future->outcome.code != 0)
        return fail_with(&future->outcome, "the task");
    if (result && !future->result_size)
        return cv_fail(COVEY_EINVAL, "the task was submitted without a result_size");
    if (result)
        memcpy(result, future->result, future->result_size);
    return 0;
}

int covey_future_is_ready(covey_future *future)
{
    struct cv_wait now = {0};
    int r = check(future);

    if (r != 0)
        return r;
    r = cv_pool_await(future, &now); /* looks after the workers as well */
    if (r == COVEY_ETIMEDOUT)
        cv_watch_arm(future);
    return r == 0 ? 1 : r == COVEY_ETIMEDOUT ? 0 : r;
}

int covey_future_outcome(covey_future *future, struct covey_outcome *outcome)
{
    int ready = covey_future_is_ready(future);

    if (ready < 0)
        return ready;
    if (!outcome)
        return cv_fail(COVEY_EINVAL, "outcome is NULL");
    if (!ready)
        return cv_fail(COVEY_ESTATE, "the task has not ended");
    *outcome = future->outcome;
    return 0;
}

int covey_future_free(covey_future *future)
{
    covey_pool *pool;
    int r;

    if (!future)
        return 0;
    r = check(future);
    if (r != 0)
        return r;
    pool = future->pool;
    (void)cv_watch_close(future);
    lock(pool);
    cv_pool_free_entry(future);
    unlock(pool);
    return 0;
}

/* For others that wait *********************************************************************** */

static int check_future(void *object)
{
    return check(object);
}

/* A future whose task nobody will do is as good as ready: to get it fails at once. */
static int look(void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    covey_future *f = object;
    uint64_t tags[CV_WORKERS_MAX];
    unsigned n = 0;
    int r = check(f);

    if (r != 0 || cv_entry_is_done(f))
        return r != 0 ? r : 1;
    if (cv_pool_tend_and_list(f->pool, tags, &n) != 0 && n == 0)
        return 1;
    cv_watched_lives_add(lives, tags, n);
    target->alarm = f->pool->give.alarm;
    if (arm)
        target->armed = cv_bell_arm(f->pool->give.done);
    target->words[0] = cv_word_low(&f->state, cv_load_acquire(&f->state));
    target->n_words = 1;
    if (!cv_entry_is_done(f))
        return 0;
    if (arm)
        cv_bell_disarm(&target->armed);
    return 1;
}

static int descriptor(void *object, struct cv_descriptor *own);

static const struct cv_any_kind kind = {check_future, look, descriptor, CV_ANY_SECOND};

static int descriptor(void *object, struct cv_descriptor *own)
{
    (void)own;
    return cv_watch_open(object, &kind);
}

__attribute__((constructor)) static void register_kind(void)
{
    cv_any_set(COVEY_WAIT_FUTURE, &kind);
}

int covey_future_fd(covey_future *future)
{
    int r = check(future);

    return r != 0 ? r : cv_watch_open(future, &kind);
}

int covey_future_fd_close(covey_future *future)
{
    return cv_watch_close(future) ? 0 : check(future);
}

/* Map **************************************************************************************** */

/* The arrays as the workers see them. */
struct mapping {
    const struct covey_map_options *o;
    uint64_t function;
    uint64_t timeout_ns;
    char *arguments;
    char *results;
    struct covey_outcome *outcomes;
    bool own_arguments; /* copies, in blocks of their own */
    bool own_results;
    size_t chunk;
    struct cv_pointers entries;
};

static int copy_in(struct mapping *m)
{
    const struct covey_map_options *o = m->o;
    uint32_t owner = cv_tag_short(cv_self.tag);

    m->arguments = (char *)(uintptr_t)o->arguments;
    m->results = o->results;
    if (o->argument_size && !cv_arena_has(o->arguments, o->count * o->argument_size, 1)) {
        m->arguments = cv_heap_alloc(o->count * o->argument_size, CV_LINE, owner);
        if (!m->arguments)
            return covey_error_code();
        m->own_arguments = true;
        memcpy(m->arguments, o->arguments, o->count * o->argument_size);
    }
    if (o->results && o->result_size && !cv_arena_has(o->results, o->count * o->result_size, 1)) {
        m->results = cv_heap_alloc(o->count * o->result_size, CV_LINE, owner);
        if (!m->results)
            return covey_error_code();
        m->own_results = true;
        memset(m->results, 0, o->count * o->result_size);
    }
    if (o->outcomes) {
        m->outcomes = cv_heap_alloc(o->count * sizeof *m->outcomes, CV_LINE, owner);
        if (!m->outcomes)
            return covey_error_code();
    }
    return 0;
}

static int add_chunk(struct mapping *m, size_t first)
{
    const struct covey_map_options *o = m->o;
    struct covey_future *entry;
    int r = check_open(o->pool);

    if (r != 0)
        return r;
    entry = cv_pool_new_entry(o->pool);
    if (!entry || !cv_pointers_add(&m->entries, entry))
        return covey_error_code();
    entry->function = m->function;
    entry->argument = o->argument_size ? m->arguments + first * o->argument_size : NULL;
    entry->result = m->results ? m->results + first * o->result_size : NULL;
    entry->argument_size = (uint32_t)o->argument_size;
    entry->result_size = (uint32_t)o->result_size;
    entry->count = (uint32_t)(o->count - first < m->chunk ? o->count - first : m->chunk);
    entry->timeout_ns = m->timeout_ns;
    entry->outcomes = m->outcomes ? m->outcomes + first : NULL;
    cv_pool_publish(o->pool, entry);
    return 0;
}

static int add_chunks(struct mapping *m)
{
    int r = 0;

    lock(m->o->pool);
    cv_pool_tend(m->o->pool);
    unlock(m->o->pool);
    for (size_t first = 0; first < m->o->count && r == 0; first += m->chunk) {
        lock(m->o->pool);
        r = add_chunk(m, first);
        unlock(m->o->pool);
    }
    return r;
}

/* Waits for all chunks; the code of the first failure, whose message stands then. */
static int await_chunks(struct mapping *m)
{
    struct cv_wait wait = {
        .deadline_ns = CV_FOREVER, .object = cv_waiter_object(m->o->pool, CV_POOL)};
    char what[48];

    for (size_t i = 0; i < m->entries.count; i++) {
        int r = cv_pool_await(m->entries.list[i], &wait);

        if (r != 0) {
            cv_wait_end(&wait);
            return r;
        }
        wait.since_ns = 0;
    }
    cv_wait_end(&wait);
    for (size_t i = 0; i < m->entries.count; i++) {
        struct covey_future *entry = m->entries.list[i];

        if (entry->outcome.code == 0)
            continue;
        (void)snprintf(what, sizeof what, "item %zu", i * m->chunk + entry->failed);
        return fail_with(&entry->outcome, what);
    }
    return 0;
}

static void copy_out(struct mapping *m)
{
    const struct covey_map_options *o = m->o;

    if (m->own_results)
        memcpy(o->results, m->results, o->count * o->result_size);
    if (m->outcomes)
        memcpy(o->outcomes, m->outcomes, o->count * sizeof *m->outcomes);
}

/* A block that a worker may still be using goes with the pool. */
static void drop_block(struct mapping *m, void *block, bool in_use)
{
    if (!in_use)
        (void)cv_heap_free(block);
    else
        (void)cv_pointers_add(&m->o->pool->private->blocks, block);
}

static void drop(struct mapping *m, bool in_use)
{
    lock(m->o->pool);
    for (size_t i = 0; i < m->entries.count; i++)
        cv_pool_free_entry(m->entries.list[i]);
    if (m->own_arguments)
        drop_block(m, m->arguments, in_use);
    if (m->own_results)
        drop_block(m, m->results, in_use);
    if (m->outcomes)
        drop_block(m, m->outcomes, in_use);
    unlock(m->o->pool);
    free(m->entries.list);
}

static bool all_done(const struct mapping *m)
{
    for (size_t i = 0; i < m->entries.count; i++) {
        const struct covey_future *entry = m->entries.list[i];

        if (!cv_entry_is_done(entry))
            return false;
    }
    return true;
}

static int run_map(struct mapping *m)
{
    bool finished;
    int r = copy_in(m);

    if (r == 0)
        r = add_chunks(m);
    if (r == 0) {
        r = await_chunks(m);
    } else if (m->entries.count > 0) {
        struct cv_wait wait = {.deadline_ns = CV_FOREVER};

        for (size_t i = 0; i < m->entries.count; i++)
            (void)cv_pool_await(m->entries.list[i], &wait);
        cv_wait_end(&wait);
    }
    finished = all_done(m);
    if (finished && m->entries.count > 0)
        copy_out(m);
    drop(m, !finished);
    return r;
}

static int check_map(const struct covey_map_options *o)
{
    if (!o->task)
        return cv_fail(COVEY_EINVAL, "task is NULL");
    if (!o->arguments && o->argument_size && o->count)
        return cv_fail(
            COVEY_EINVAL, "arguments is NULL, with items of %zu bytes", o->argument_size);
    if (o->argument_size > ITEM_MAX || o->result_size > ITEM_MAX)
        return cv_fail(COVEY_ETOOBIG, "arguments of %zu bytes and results of %zu: at most %u",
            o->argument_size, o->result_size, ITEM_MAX);
    if ((o->argument_size && o->count > PTRDIFF_MAX / o->argument_size) ||
        (o->result_size && o->count > PTRDIFF_MAX / o->result_size) ||
        o->count > PTRDIFF_MAX / sizeof(struct covey_outcome))
        return cv_fail(COVEY_EINVAL, "%zu items are more than there are addresses for", o->count);
    return 0;
}

static size_t chunk_for(const struct covey_map_options *o)
{
    size_t chunks = (size_t)o->pool->workers * CHUNKS_PER_WORKER;
    size_t chunk = o->chunk ? o->chunk : (o->count + chunks - 1) / chunks;

    return chunk > COUNT_MAX ? COUNT_MAX : chunk ? chunk : 1;
}

int covey_pool_map_with(const struct covey_map_options *options)
{
    struct covey_map_options o;
    struct mapping m = {.o = &o};
    int r = cv_options_read(&o, sizeof o, options, "covey_map_options");

    if (r == 0)
        r = cv_pool_check(o.pool);
    if (r == 0)
        r = check_map(&o);
    if (r == 0)
        r = check_timeout(o.timeout_s, &m.timeout_ns);
    if (r == 0)
        r = cv_function_export((cv_any_function *)(uintptr_t)o.task, &m.function);
    if (r != 0)
        return r;
    m.chunk = chunk_for(&o);
    return run_map(&m);
}
