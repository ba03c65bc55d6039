/* SPDX-License-Identifier: MIT */
#include "sync/waiter.h"

#include "base/error.h"
#include "base/mutation.h"
#include "os/clock.h"
#include "os/thread.h"
#include "sync/condition.h"

#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

enum {
    STEP = 64, /* records that are claimed at a time: a page */
};

_Thread_local struct cv_thread cv_thread CV_TLS_FAST;

static struct cv_waiter *table(void)
{
    return (struct cv_waiter *)(void *)(cv_arena.memory.base + cv_arena.family->waiters_offset);
}

uint64_t cv_waiter_identify(void)
{
    cv_thread = (struct cv_thread){
        .nonce = cv_self.nonce,
        .mark = cv_tag_mark(cv_self.tag, cv_thread_id()),
    };
    return cv_thread.mark;
}

/* Taking a record **************************************************************************** */

static void give_back(struct cv_waiter *w)
{
    uint64_t mine = cv_self.tag;

    if (cv_load_acquire(&w->owner) == mine)
        (void)cv_cas64(&w->owner, mine, 0);
}

/* At the end of a thread: its process may be in another family by now, or in none. */
static void end_thread(void *value)
{
    (void)value;
    if (cv_thread.record && cv_self.tag && cv_thread.nonce == cv_self.nonce)
        give_back(cv_thread.record);
}

static pthread_key_t key;
static bool has_key;

static void make_key(void)
{
    has_key = pthread_key_create(&key, end_thread) == 0;
}

/* So that this thread can keep a record. */
static bool gives_back_at_end(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, make_key);
    return has_key && pthread_setspecific(key, &cv_thread) == 0;
}

static struct cv_waiter *take_free(void)
{
    uint32_t used = cv_load_acquire(&cv_arena.family->waiters_used);
    uint32_t start = cv_tag_slot(cv_self.tag); /* neighbours do not meet */

    for (uint32_t i = 0; i < used; i++) {
        struct cv_waiter *w = &table()[(start + i) % used];

        if (cv_load_relaxed(&w->owner) == 0 && cv_cas64(&w->owner, 0, cv_self.tag))
            return w;
    }
    return NULL;
}

static bool add_records(void)
{
    struct cv_family *family = cv_arena.family;
    uint32_t used = cv_load_acquire(&family->waiters_used);
    uint32_t more = used + STEP < family->waiters ? used + STEP : family->waiters;

    if (used == family->waiters) {
        (void)cv_fail(COVEY_ELIMIT, "%u threads wait, as many as can", used);
        return false;
    }
    if (cv_memory_claim(&cv_arena.memory, (char *)&table()[used],
            (more - used) * sizeof(struct cv_waiter)) != 0)
        return false;
    (void)cv_cas32(&family->waiters_used, used, more);
    return true;
}

static struct cv_waiter *claim(void)
{
    struct cv_waiter *w;

    w = take_free();
    if (!w && CV_RECOVERS(waiter_reuse) &&
        cv_load_relaxed(&cv_arena.family->waiters_used) == cv_arena.family->waiters)
        (void)cv_member_bury_all();
    while (!w && (w = take_free()) == NULL) {
        if (!add_records())
            return NULL;
    }
    cv_store_relaxed(&w->object, 0);
    cv_store_relaxed(&w->place, 0);
    cv_store_relaxed(&w->since_ns, 0);
    cv_store_relaxed(&w->away, 0);
    cv_store_release(&w->tid, (uint32_t)cv_mark_pid(cv_waiter_me()));
    return w;
}

struct cv_waiter *cv_waiter_take(void)
{
    (void)cv_waiter_me();
    if (cv_thread.record ? cv_thread.busy : !gives_back_at_end())
        return claim();
    if (!cv_thread.record)
        cv_thread.record = claim();
    cv_thread.busy = cv_thread.record != NULL;
    return cv_thread.record;
}

void cv_waiter_drop(struct cv_waiter *w)
{
    cv_store_release(&w->object, 0);
    cv_store_relaxed(&w->place, 0);
    cv_store_relaxed(&w->since_ns, 0);
    if (w == cv_thread.record)
        cv_thread.busy = false;
    else
        give_back(w);
}

/* Being seen ********************************************************************************* */

void cv_waiter_show(struct cv_waiter *w, uint64_t object)
{
    uint64_t *count = &cv_arena.family->wait_count;
    uint64_t last = cv_load_seq(count);

    cv_store_relaxed(&w->number, 0);
    if (cv_load_relaxed(&w->since_ns) == 0)
        cv_store_relaxed(&w->since_ns, cv_clock_now());
    cv_store_seq(&w->object, object);
    do {
        cv_store_seq(&w->number, last + 1);
    } while (!cv_cas(count, &last, last + 1));
}

uint64_t cv_waiter_turn(void)
{
    return cv_fetch_add(&cv_arena.family->wait_count, 1) + 1;
}

void cv_waiter_stay(struct cv_waiter *w, uint64_t object)
{
    cv_store_seq(&w->object, object | CV_WAITER_AWAKE);
}

void cv_waiter_hide(struct cv_waiter *w)
{
    cv_waiter_stay(w, cv_load_relaxed(&w->object));
}

uint32_t cv_waiter_index(const struct cv_waiter *w)
{
    return (uint32_t)(w - table());
}

struct cv_waiter *cv_waiter_at(uint32_t index)
{
    return &table()[index];
}

uint64_t cv_waiter_bit(const struct cv_waiter *w)
{
    return UINT64_C(1) << cv_waiter_index(w) % 64;
}

void cv_waiter_each(
    uint64_t among, bool (*visit)(struct cv_waiter *waiter, void *context), void *context)
{
    uint32_t used = cv_load_acquire(&cv_arena.family->waiters_used);

    for (; among; among &= among - 1) {
        for (uint32_t i = (uint32_t)__builtin_ctzll(among); i < used; i += 64) {
            struct cv_waiter *w = &table()[i];

            if (cv_load_acquire(&w->owner) && !visit(w, context))
                return;
        }
    }
}

static bool sleeps(struct cv_waiter *w)
{
    uint64_t object = cv_load_seq(&w->object);

    return object && !(object & CV_WAITER_AWAKE);
}

struct one {
    uint64_t tag;
    uint32_t tid;
    uint64_t object;
    struct cv_waiter *found;
};

static bool is_one(struct cv_waiter *w, void *context)
{
    struct one *one = context;

    if (cv_load_acquire(&w->owner) == one->tag && cv_load_relaxed(&w->tid) == one->tid && sleeps(w))
        one->found = w;
    return !one->found;
}

struct cv_waiter *cv_waiter_of(uint64_t tag, uint32_t tid)
{
    struct one one = {.tag = tag, .tid = tid};

    cv_waiter_each(UINT64_MAX, is_one, &one);
    return one.found;
}

static bool is_for(struct cv_waiter *w, void *context)
{
    struct one *one = context;
    uint64_t owner = cv_load_acquire(&w->owner);

    if ((cv_load_seq(&w->object) & ~CV_WAITER_AWAKE) == one->object && owner &&
        w != cv_thread.record && !cv_member_is_dead(owner, 0))
        one->found = w;
    return !one->found;
}

struct cv_waiter *cv_waiter_for(uint64_t object)
{
    struct one one = {.object = object};

    cv_waiter_each(UINT64_MAX, is_for, &one);
    return one.found;
}

/* Burial ************************************************************************************* */

static bool bury_one(struct cv_waiter *w, void *context)
{
    uint64_t tag = *(uint64_t *)context;

    if (cv_load_acquire(&w->owner) == tag) {
        cv_condition_pass_on(w, tag);
        if (CV_RECOVERS(waiter_burial))
            (void)cv_cas64(&w->owner, tag, 0);
    }
    return true;
}

static bool sweep(uint64_t tag)
{
    cv_waiter_each(UINT64_MAX, bury_one, &tag);
    return true;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_set_sweep(CV_SWEEP_WAITERS, sweep);
}
