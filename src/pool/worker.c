/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include "os/timer.h"
#include "proc/function.h"

#include <limits.h>
#include <string.h>

void cv_entry_note(struct covey_future *entry, uint32_t index, const struct covey_outcome *outcome)
{
    if (entry->outcomes)
        entry->outcomes[index] = *outcome;
    if (outcome->code != 0 && (entry->outcome.code == 0 || index < entry->failed)) {
        entry->failed = index;
        entry->outcome = *outcome;
    }
}

void cv_entry_finish(struct covey_future *entry)
{
    if (cv_exchange(&entry->state, CV_ENTRY_DONE) & CV_ENTRY_SLEEPER)
        (void)cv_futex_wake(cv_word_gong(&entry->state, 0).word, INT_MAX);
    cv_bell_ring(entry->pool->give.done, INT_MAX);
}

/* Moves head over entry @number, which was seen not to be READY, unless it has moved already. */
static void move_head(covey_pool *pool, uint64_t head)
{
    uint64_t next = (head & ~CV_HEAD_NUMBER) | ((head + 1) & CV_HEAD_NUMBER);

    (void)cv_cas64(&pool->take.head, head, next);
}

static bool claim(covey_pool *pool, const struct cv_worker_argument *me, struct covey_future *entry)
{
    struct cv_worker *w = &pool->worker[me->index];
    uint64_t state = cv_load_acquire(&entry->state);

    cv_store_seq(&w->current, entry);
    while (cv_entry_phase(state) == CV_ENTRY_READY) {
        uint64_t mine = cv_entry_claimed(me->index, me->incarnation) | (state & CV_ENTRY_SLEEPER);

        if (cv_cas(&entry->state, &state, mine)) {
            cv_store_relaxed(&w->claims, w->claims + 1);
            return true;
        }
    }
    return false;
}

/* The next task, claimed; NULL when there is none. */
static struct covey_future *take(covey_pool *pool, const struct cv_worker_argument *me)
{
    for (;;) {
        uint64_t head = cv_load_acquire(&pool->take.head);
        struct covey_future *entry;

        if ((head & CV_HEAD_NUMBER) >= cv_load_acquire(&pool->give.tail))
            return NULL;
        entry = cv_pool_entry(pool, head & CV_HEAD_NUMBER);
        if (entry && cv_entry_phase(cv_load_acquire(&entry->state)) == CV_ENTRY_READY &&
            claim(pool, me, entry))
            return entry;
        move_head(pool, head);
    }
}

static void run_item(struct cv_worker *w, struct covey_future *entry, covey_task *task, uint32_t i)
{
    struct covey_outcome outcome = {0};

    cv_store_seq(&entry->progress, i);
    if (entry->timeout_ns) {
        cv_store_seq(&w->started_ns, cv_clock_now());
        outcome.code = cv_timer_kill_after(entry->timeout_ns);
        if (outcome.code != 0) { /* better not at all than without its deadline */
            cv_entry_note(entry, i, &outcome);
            return;
        }
    }
    outcome.value =
        task(entry->argument ? entry->argument + (size_t)i * entry->argument_size : NULL,
            entry->result ? entry->result + (size_t)i * entry->result_size : NULL);
    if (entry->timeout_ns) {
        cv_timer_stop();
        cv_store_relaxed(&w->started_ns, 0);
    }
    if (outcome.value != 0)
        outcome.code = COVEY_ETASK;
    if (outcome.code != 0 || entry->outcomes)
        cv_entry_note(entry, i, &outcome);
}

static void run(covey_pool *pool, struct cv_worker *w, struct covey_future *entry)
{
    cv_any_function *function = NULL;

    if (cv_function_import(entry->function, &function) != 0) {
        struct covey_outcome outcome = {.code = covey_error_code()};

        for (uint32_t i = entry->progress; i < entry->count; i++)
            cv_entry_note(entry, i, &outcome);
    } else {
        for (uint32_t i = entry->progress; i < entry->count; i++)
            run_item(w, entry, (covey_task *)function, i);
    }
    cv_alarm_set(pool->give.alarm);
    cv_entry_finish(entry);
    cv_alarm_clear();
}

/* Sleeps until there may be a task; *published was read before looking. */
static void wait_for_task(covey_pool *pool, struct cv_wait *wait, uint32_t published)
{
    struct cv_futex_watch word = {&pool->give.published, published};

    if (cv_wait_spin(wait, word.word, published))
        return;
    (void)cv_wait_sleep_armed(
        wait, pool->give.alarm, cv_bell_arm(pool->give.work), &word, 1, NULL, 0);
}

int cv_worker_main(void *argument)
{
    const struct cv_worker_argument *me = argument;
    covey_pool *pool = me->pool;
    const struct cv_wait idle = {
        .deadline_ns = CV_FOREVER, .object = cv_waiter_object(pool, CV_POOL)};
    struct cv_wait wait = idle;

    cv_store_release(&pool->worker[me->index].looked, 1);
    for (;;) {
        uint32_t published = cv_load_acquire(&pool->give.published);
        bool closed = cv_load_acquire(&pool->give.phase) != CV_POOL_OPEN;
        struct covey_future *entry = take(pool, me);

        if (entry) {
            cv_wait_end(&wait); /* a wake that this worker has taken is used now */
            wait = idle;
            run(pool, &pool->worker[me->index], entry);
        } else if (closed) {
            return 0;
        } else {
            wait_for_task(pool, &wait, published);
        }
    }
}
