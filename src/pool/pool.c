/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "base/options.h"
#include "sync/watch.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EARLY_NS (100 * (uint64_t)CV_NS_PER_MS)

enum {
    DEATHS_EARLY_PER_WORKER = 3, /* in a row; then no more are started */
    ABANDONED_LOOKS = 4,
};

int cv_pool_check(const covey_pool *pool)
{
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!cv_arena_has(pool, sizeof *pool, CV_LINE) ||
        cv_load_acquire(&pool->magic) != CV_POOL_MAGIC)
        return cv_fail_object(pool, "pool");
    if (pool->owner != cv_self.tag)
        return cv_fail(COVEY_ENOTOWNER, "the pool is of pid %d, which alone may use it",
            (int)cv_member_pid(pool->owner));
    return 0;
}

bool cv_pointers_add(struct cv_pointers *p, void *pointer)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 16;
        void **list = realloc(p->list, room * sizeof *list);

        if (!list) {
            (void)cv_fail(COVEY_ENOMEM, "no memory for a list of %zu", room);
            return false;
        }
        p->list = list;
        p->room = room;
    }
    p->list[p->count++] = pointer;
    return true;
}

/* Entries ************************************************************************************ */

static uint32_t my_short_tag(void)
{
    return cv_tag_short(cv_self.tag);
}

static uint64_t segment_of(uint64_t number)
{
    return number / CV_SEGMENT_ENTRIES;
}

static struct cv_segment **slot_of(const struct cv_directory *d, uint64_t segment)
{
    return (struct cv_segment **)(uintptr_t)&d->segment[segment & (d->size - 1)];
}

/* From the directory before, which workers may still be looking at. */
static int copy_directory(covey_pool *pool, struct cv_directory *d, uint32_t *freed)
{
    struct cv_pool_own *own = pool->private;
    struct cv_directory *before = pool->directory;

    if (!before)
        return 0;
    if (!cv_pointers_add(&own->blocks, before))
        return covey_error_code();
    for (uint64_t n = segment_of(own->first); n < own->segments; n++) {
        *slot_of(d, n) = *slot_of(before, n);
        freed[n & (d->size - 1)] = own->freed[n & (before->size - 1)];
    }
    return 0;
}

static int grow_directory(covey_pool *pool)
{
    uint64_t size = pool->directory ? 2 * pool->directory->size : CV_DIRECTORY_FIRST;
    size_t bytes = sizeof(struct cv_directory) + size * sizeof(struct cv_segment *);
    uint32_t *freed = calloc(size, sizeof *freed);
    struct cv_directory *d = cv_heap_alloc(bytes, CV_LINE, my_short_tag());

    if (!freed || !d) {
        (void)cv_fail(COVEY_ENOMEM, "no memory for the directory of %" PRIu64 " segments", size);
        goto fail;
    }
    memset(d, 0, bytes);
    d->size = size;
    if (copy_directory(pool, d, freed) != 0)
        goto fail;
    free(pool->private->freed);
    pool->private->freed = freed;
    cv_store_release(&pool->directory, d);
    return 0;
fail:
    free(freed);
    if (d)
        (void)cv_heap_free(d);
    return covey_error_code();
}

static struct cv_segment *new_segment(enum cv_entry_phase phase)
{
    struct cv_segment *s = cv_heap_alloc(sizeof *s, CV_LINE, my_short_tag());

    if (s)
        memset(s, 0, sizeof *s);
    for (int i = 0; s && i < CV_SEGMENT_ENTRIES; i++)
        s->entry[i].state = phase;
    return s;
}

static struct cv_segment *find_segment(struct cv_pool_own *own)
{
    struct cv_segment *s;

    if (own->spare.count == 0)
        return new_segment(CV_ENTRY_EMPTY);
    s = own->spare.list[--own->spare.count];
    for (int i = 0; i < CV_SEGMENT_ENTRIES; i++)
        cv_store_seq(&s->entry[i].state, CV_ENTRY_EMPTY);
    return s;
}

/* Room for the entry at the tail, the first of its segment. */
static int add_segment(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;
    uint64_t n = own->segments;
    struct cv_segment *s;
    int r = 0;

    if (n - segment_of(own->first) >= pool->directory->size)
        r = grow_directory(pool);
    if (r != 0)
        return r;
    s = find_segment(own);
    if (!s)
        return covey_error_code();
    own->freed[n & (pool->directory->size - 1)] = 0;
    cv_store_release(slot_of(pool->directory, n), s);
    own->segments++;
    return 0;
}

struct covey_future *cv_pool_new_entry(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;
    struct covey_future *entry;

    cv_pool_free_abandoned(pool);
    if (segment_of(pool->give.tail) == own->segments && add_segment(pool) != 0)
        return NULL;
    entry = cv_pool_entry(pool, pool->give.tail);
    entry->pool = pool;
    entry->number = pool->give.tail;
    entry->progress = 0;
    entry->outcome = (struct covey_outcome){0};
    entry->outcomes = NULL;
    entry->has_block = 0;
    entry->is_abandoned = 0;
    return entry;
}

/* Tells the workers that there is something to look at: a full barrier, then the bell. */
static void tell_workers(covey_pool *pool, int sleepers)
{
    (void)cv_fetch_add(&pool->give.published, 1);
    cv_bell_ring(pool->give.work, sleepers);
}

void cv_pool_publish(covey_pool *pool, struct covey_future *entry)
{
    cv_alarm_set(pool->give.alarm);
    cv_store_release(&entry->state, CV_ENTRY_READY);
    cv_store_release(&pool->give.tail, entry->number + 1);
    tell_workers(pool, 1);
    cv_alarm_clear();
}

/* Moves head to @number, forward or back, with a new version. */
static void set_head(covey_pool *pool, uint64_t number, bool forward)
{
    uint64_t head = cv_load_acquire(&pool->take.head);
    uint64_t next;

    do {
        uint64_t now = head & CV_HEAD_NUMBER;

        if (forward ? now >= number : now < number)
            return;
        next = ((head | CV_HEAD_NUMBER) + 1) | number;
    } while (!cv_cas(&pool->take.head, &head, next));
}

static bool is_all_freed(const covey_pool *pool, uint64_t segment)
{
    return pool->private->freed[segment & (pool->directory->size - 1)] == CV_SEGMENT_ENTRIES;
}

/* All entries before the tail's segment that are FREED, as far as none that is not lies between. */
static void drop_first_segments(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;
    uint64_t from = segment_of(own->first);
    uint64_t to = from;

    while (to < segment_of(pool->give.tail) && is_all_freed(pool, to))
        to++;
    own->first = to * CV_SEGMENT_ENTRIES;
    set_head(pool, own->first, true);
    for (uint64_t n = from; n < to; n++)
        cv_store_release(slot_of(pool->directory, n), NULL);
}

/* Takes a segment whose entries are all FREED out of the directory, to be used again. */
static void recycle_segment(covey_pool *pool, uint64_t n)
{
    struct cv_pool_own *own = pool->private;
    struct cv_segment *s = *slot_of(pool->directory, n);

    if (!own->gone)
        own->gone = new_segment(CV_ENTRY_FREED);
    if (!own->gone || !cv_pointers_add(&own->spare, s))
        return;
    cv_store_release(slot_of(pool->directory, n), own->gone);
    if (n == segment_of(own->first))
        drop_first_segments(pool);
}

static void free_done_entry(struct covey_future *entry)
{
    covey_pool *pool = entry->pool;
    uint64_t n = segment_of(entry->number);
    uint32_t *freed = &pool->private->freed[n & (pool->directory->size - 1)];

    if (entry->has_block)
        (void)cv_heap_free(entry->block);
    cv_store_seq(&entry->state, CV_ENTRY_FREED);
    if (++*freed == CV_SEGMENT_ENTRIES && n < segment_of(pool->give.tail))
        recycle_segment(pool, n);
}

bool cv_entry_is_done(const struct covey_future *entry)
{
    return cv_entry_phase(cv_load_acquire(&entry->state)) == CV_ENTRY_DONE;
}

void cv_pool_free_entry(struct covey_future *entry)
{
    if (cv_entry_is_done(entry)) {
        free_done_entry(entry);
    } else {
        entry->is_abandoned = 1;
        (void)cv_pointers_add(&entry->pool->private->abandoned, entry);
    }
}

void cv_pool_free_abandoned(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;
    struct cv_pointers *p = &own->abandoned;

    /* More of them in a call than are added between two, so they do not pile up. */
    for (int i = 0; i < ABANDONED_LOOKS && p->count > 0; i++) {
        size_t at = own->abandoned_next < p->count ? own->abandoned_next : 0;

        own->abandoned_next = at + 1;
        if (cv_entry_is_done(p->list[at])) {
            free_done_entry(p->list[at]);
            p->list[at] = p->list[--p->count];
        }
    }
}

/* Workers ************************************************************************************ */

static int start_worker(covey_pool *pool, uint32_t i)
{
    struct cv_pool_own *own = pool->private;
    struct cv_worker *w = &pool->worker[i];
    struct cv_worker_argument argument = {pool, i, w->incarnation + 1};
    char name[COVEY_NAME_MAX + 1];
    int r;

    (void)snprintf(name, sizeof name, "%.55s-%u", own->name, i);
    cv_store_relaxed(&w->current, NULL);
    cv_store_relaxed(&w->started_ns, 0);
    cv_store_relaxed(&w->claims, 0);
    cv_store_relaxed(&w->looked, 0);
    own->begun_ns[i] = cv_clock_now();
    cv_store_relaxed(&w->incarnation, argument.incarnation);
    r = covey_process_start(&own->process[i], cv_worker_main, COVEY_ARGUMENT(argument),
        .name = name, .method = own->method, .daemon = true);
    if (r == 0) {
        own->process[i]->is_worker = 1;
        cv_store_release(&w->tag, own->process[i]->tag);
    }
    return r;
}

/* The item that was running when the worker died has failed; the others of its chunk go on. */
static void fail_lost_task(covey_pool *pool, uint32_t i, pid_t pid, int exit_code)
{
    struct cv_worker *w = &pool->worker[i];
    struct covey_future *entry = cv_load_acquire(&w->current);
    struct covey_outcome outcome = {.code = COVEY_EDIED, .pid = pid, .exit_code = exit_code};
    uint64_t started_ns = cv_load_acquire(&w->started_ns);
    uint64_t state;
    uint32_t item;

    if (!entry || !CV_RECOVERS(pool_lost_task))
        return;
    state = cv_load_acquire(&entry->state);
    if ((state & ~CV_ENTRY_SLEEPER) != cv_entry_claimed(i, w->incarnation))
        return;
    item = entry->progress;
    if (entry->timeout_ns && started_ns && exit_code == -SIGKILL &&
        cv_clock_now() >= started_ns + entry->timeout_ns)
        outcome.code = COVEY_EDEADLINE;
    if (CV_RECOVERS(pool_outcome) && entry->outcome.code != 0 && entry->failed == item)
        entry->outcome.code = 0; /* half written, perhaps */
    cv_entry_note(entry, item, &outcome);
    if (item + 1 == entry->count || !CV_RECOVERS(pool_rest)) {
        cv_entry_finish(entry);
        return;
    }
    entry->progress = item + 1;
    cv_store_seq(&entry->state, CV_ENTRY_READY | (state & CV_ENTRY_SLEEPER));
    if (CV_RECOVERS(pool_head))
        set_head(pool, entry->number, false);
    tell_workers(pool, 1);
}

static bool has_ready(covey_pool *pool)
{
    for (uint64_t n = pool->private->first; n < pool->give.tail; n++) {
        struct covey_future *entry = cv_pool_entry(pool, n);

        if (entry && cv_entry_phase(cv_load_acquire(&entry->state)) == CV_ENTRY_READY)
            return true;
    }
    return false;
}

/* A worker that was sent SIGKILL with result @sent; if that failed, it is another program by exec,
 * with other rights, and none of this pool's any more. */
static void await_end(covey_process *p, int sent)
{
    while (sent == 0 && covey_process_join(p, COVEY_FOREVER) != 0 && !cv_process_has_ended(p)) {
    }
}

/* A worker that has ended, or is another program. */
static void give_back(covey_pool *pool, uint32_t i)
{
    covey_process *p = pool->private->process[i];

    pool->private->process[i] = NULL;
    p->is_worker = 0;
    if (covey_process_close(p) != 0)
        cv_process_detach(p);
}

static void describe_end(char *text, size_t size, pid_t pid, int exit_code)
{
    if (exit_code < 0)
        (void)snprintf(text, size, "pid %d, killed by signal %d", (int)pid, -exit_code);
    else
        (void)snprintf(text, size, "pid %d, with exit code %d", (int)pid, exit_code);
}

static void break_pool(covey_pool *pool, int code, const char *why)
{
    struct cv_pool_own *own = pool->private;

    own->broken = code;
    (void)snprintf(own->message, sizeof own->message, "%.200s", why);
}

/*
 * A worker that dies before it has looked for tasks, or at once after that, is perhaps one that can
 * never live: so there is an end to replacing such ones.
 */
static void count_early_death(covey_pool *pool, uint32_t i, pid_t pid, int exit_code)
{
    struct cv_pool_own *own = pool->private;
    const struct cv_worker *w = &pool->worker[i];
    bool early = !cv_load_relaxed(&w->claims) &&
                 (!cv_load_relaxed(&w->looked) || cv_clock_now() - own->begun_ns[i] < EARLY_NS);
    char how[64];
    char why[160];

    own->deaths_early = early ? own->deaths_early + 1 : 0;
    if (own->deaths_early < DEATHS_EARLY_PER_WORKER * pool->workers)
        return;
    describe_end(how, sizeof how, pid, exit_code);
    (void)snprintf(why, sizeof why, "workers die before they take a task, the last one %s", how);
    break_pool(pool, COVEY_EDIED, why);
}

static void replace_worker(covey_pool *pool, uint32_t i)
{
    struct cv_pool_own *own = pool->private;
    covey_process *p = own->process[i];
    enum cv_pool_phase phase = (enum cv_pool_phase)pool->give.phase;
    pid_t pid = (pid_t)p->pid;
    int exit_code = 0;

    await_end(p, covey_process_kill(p)); /* this takes the zombie */
    (void)covey_process_exit_code(p, &exit_code);
    if (p->failure)
        break_pool(pool, p->failure, p->message);
    fail_lost_task(pool, i, pid, exit_code);
    if (phase == CV_POOL_OPEN)
        count_early_death(pool, i, pid, exit_code);
    give_back(pool, i);
    if (phase == CV_POOL_TERMINATED || own->broken || (phase == CV_POOL_CLOSED && !has_ready(pool)))
        return;
    if (CV_RECOVERS(pool_replace) && start_worker(pool, i) != 0)
        break_pool(pool, covey_error_code(), covey_error());
}

static void tend_worker(covey_pool *pool, uint32_t i)
{
    if (pool->private->process[i] && cv_member_is_dead(pool->private->process[i]->tag, 0))
        replace_worker(pool, i);
}

void cv_pool_tend(covey_pool *pool)
{
    cv_alarm_set(pool->give.alarm);
    for (uint32_t i = 0; i < pool->workers; i++)
        tend_worker(pool, i);
    cv_alarm_clear();
}

void cv_pool_tend_next(covey_pool *pool)
{
    uint32_t i = pool->private->tended++ % pool->workers;

    cv_alarm_set(pool->give.alarm);
    tend_worker(pool, i);
    cv_alarm_clear();
}

/* The tags of the workers that live; how many. With the lock held. */
static unsigned living(covey_pool *pool, uint64_t *tags)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < pool->workers; i++) {
        if (pool->private->process[i])
            tags[n++] = pool->private->process[i]->tag;
    }
    return n;
}

bool cv_pool_has_workers(covey_pool *pool)
{
    uint64_t tags[CV_WORKERS_MAX];

    return living(pool, tags) > 0;
}

int cv_pool_tend_and_list(covey_pool *pool, uint64_t *tags, unsigned *n)
{
    struct cv_pool_own *own = pool->private;
    int r;

    (void)pthread_mutex_lock(&own->lock);
    cv_pool_tend(pool);
    *n = living(pool, tags);
    r = own->broken;
    if (r != 0)
        (void)cv_fail(r, "the pool is broken: %s", own->message);
    (void)pthread_mutex_unlock(&own->lock);
    return r;
}

int cv_pool_await(struct covey_future *entry, struct cv_wait *wait)
{
    uint64_t tags[CV_WORKERS_MAX];
    unsigned n = 0;
    int r = 0;

    for (;;) {
        uint64_t state = cv_load_acquire(&entry->state);
        struct cv_futex_watch low = cv_word_low(&entry->state, state | CV_ENTRY_SLEEPER);
        int broken;

        if (cv_entry_phase(state) == CV_ENTRY_DONE)
            return 0;
        if (r < 0)
            return r;
        if (cv_wait_spin(wait, low.word, (uint32_t)state))
            continue;
        broken = cv_pool_tend_and_list(entry->pool, tags, &n);
        if (broken != 0 && n == 0 && !cv_entry_is_done(entry))
            return broken;
        if (wait->deadline_ns != 0 && !(state & CV_ENTRY_SLEEPER) &&
            !cv_cas64(&entry->state, state, state | CV_ENTRY_SLEEPER))
            continue;
        r = cv_wait_sleep(
            wait, entry->pool->give.alarm, cv_word_gong(&entry->state, state), &low, 1, tags, n);
    }
}

/* Public ************************************************************************************* */

static int check_options(const struct covey_pool_options *o)
{
    if (!o->pool)
        return cv_fail(COVEY_EINVAL, "pool is NULL: there is no place for the new pool");
    if (o->workers > CV_WORKERS_MAX)
        return cv_fail(COVEY_EINVAL, "%u workers: at most %d", o->workers, CV_WORKERS_MAX);
    if (o->name && strlen(o->name) > COVEY_NAME_MAX - 8)
        return cv_fail(
            COVEY_EINVAL, "the name \"%.80s\" has more than %d bytes", o->name, COVEY_NAME_MAX - 8);
    if (o->method < COVEY_DEFAULT_METHOD || o->method > COVEY_FORKSERVER)
        return cv_fail(COVEY_EINVAL, "%d is not a start method", (int)o->method);
    return 0;
}

static void free_own(struct cv_pool_own *own)
{
    if (!own)
        return;
    (void)pthread_mutex_destroy(&own->lock);
    free(own->freed);
    free(own->spare.list);
    free(own->abandoned.list);
    free(own->blocks.list);
    free(own->process);
    free(own->begun_ns);
    free(own);
}

static struct cv_pool_own *make_own(const struct covey_pool_options *o)
{
    struct cv_pool_own *own = calloc(1, sizeof *own);

    if (own) {
        own->process = calloc(o->workers, sizeof(covey_process *));
        own->begun_ns = calloc(o->workers, sizeof *own->begun_ns);
    }
    if (!own || !own->process || !own->begun_ns) {
        if (own) {
            free(own->process);
            free(own->begun_ns);
        }
        free(own);
        (void)cv_fail(COVEY_ENOMEM, "no memory for a pool of %u workers", o->workers);
        return NULL;
    }
    (void)pthread_mutex_init(&own->lock, NULL);
    (void)snprintf(own->name, sizeof own->name, "%s", o->name ? o->name : "pool");
    own->method = o->method;
    return own;
}

static void free_pool_memory(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;

    for (uint64_t n = segment_of(own->first); n < own->segments; n++) {
        struct cv_segment *s = *slot_of(pool->directory, n);

        if (s == own->gone)
            continue;
        for (int i = 0; i < CV_SEGMENT_ENTRIES; i++) {
            (void)cv_watch_close(&s->entry[i]);
            if (cv_entry_is_done(&s->entry[i]) && s->entry[i].has_block)
                (void)cv_heap_free(s->entry[i].block);
        }
        (void)cv_heap_free(s);
    }
    while (own->spare.count > 0)
        (void)cv_heap_free(own->spare.list[--own->spare.count]);
    while (own->blocks.count > 0)
        (void)cv_heap_free(own->blocks.list[--own->blocks.count]);
    if (own->gone)
        (void)cv_heap_free(own->gone);
    if (pool->directory)
        (void)cv_heap_free(pool->directory);
    (void)cv_heap_free(pool);
    free_own(own);
}

/* The code of what keeps this process from killing one of them: one that has changed its user id. */
static int end_workers(covey_pool *pool)
{
    struct cv_pool_own *own = pool->private;
    int failed = 0;

    for (uint32_t i = 0; i < pool->workers; i++) {
        if (own->process[i])
            (void)covey_process_kill(own->process[i]);
    }
    for (uint32_t i = 0; i < pool->workers; i++) {
        covey_process *p = own->process[i];
        int r = p ? covey_process_kill(p) : 0;

        if (r != 0 && !cv_member_is_dead(p->tag, 0)) {
            failed = r;
        } else if (p) {
            await_end(p, r);
            give_back(pool, i);
        }
    }
    return failed;
}

static int terminate(covey_pool *pool)
{
    struct covey_outcome outcome = {.code = COVEY_ECLOSED};
    struct cv_pool_own *own = pool->private;
    int r;

    cv_store_seq(&pool->give.phase, CV_POOL_TERMINATED);
    r = end_workers(pool);
    if (r != 0)
        return r;
    for (uint64_t n = own->first; n < pool->give.tail; n++) {
        struct covey_future *entry = cv_pool_entry(pool, n);
        enum cv_entry_phase phase = cv_entry_phase(cv_load_acquire(&entry->state));

        if (phase != CV_ENTRY_READY && phase != CV_ENTRY_CLAIMED)
            continue;
        for (uint32_t i = entry->progress; i < entry->count; i++)
            cv_entry_note(entry, i, &outcome);
        cv_entry_finish(entry);
    }
    return 0;
}

int covey_pool_open_with(const struct covey_pool_options *options)
{
    struct covey_pool_options o;
    struct cv_pool_own *own;
    covey_pool *pool;
    size_t bytes;
    int r = cv_options_read(&o, sizeof o, options, "covey_pool_options");

    if (r == 0)
        r = check_options(&o);
    if (r == 0)
        r = cv_enter();
    if (r != 0)
        return r;
    if (o.workers == 0)
        o.workers = covey_cpu_count();
    own = make_own(&o);
    if (!own)
        return covey_error_code();
    bytes = sizeof *pool + o.workers * sizeof *pool->worker;
    pool = cv_heap_alloc(bytes, CV_LINE, my_short_tag());
    if (!pool) {
        free_own(own);
        return covey_error_code();
    }
    memset(pool, 0, bytes);
    cv_alarm_init(pool->give.alarm, CV_POOL_BELLS);
    pool->workers = o.workers;
    pool->owner = cv_self.tag;
    pool->private = own;
    r = grow_directory(pool);
    for (uint32_t i = 0; i < o.workers && r == 0; i++)
        r = start_worker(pool, i);
    if (r != 0) {
        if (end_workers(pool) == 0)
            free_pool_memory(pool);
        return r;
    }
    cv_store_release(&pool->magic, CV_POOL_MAGIC);
    *o.pool = pool;
    return 0;
}

int covey_pool_close(covey_pool *pool)
{
    int r = cv_pool_check(pool);

    if (r != 0)
        return r;
    (void)pthread_mutex_lock(&pool->private->lock);
    if (pool->give.phase == CV_POOL_OPEN) {
        cv_alarm_set(pool->give.alarm);
        cv_store_seq(&pool->give.phase, CV_POOL_CLOSED);
        tell_workers(pool, INT_MAX);
        cv_alarm_clear();
    }
    (void)pthread_mutex_unlock(&pool->private->lock);
    return 0;
}

int covey_pool_terminate(covey_pool *pool)
{
    int r = cv_pool_check(pool);

    if (r != 0)
        return r;
    (void)pthread_mutex_lock(&pool->private->lock);
    cv_alarm_set(pool->give.alarm);
    r = terminate(pool);
    cv_alarm_clear();
    (void)pthread_mutex_unlock(&pool->private->lock);
    return r;
}

int covey_pool_join(covey_pool *pool, double timeout_s)
{
    uint64_t tags[CV_WORKERS_MAX];
    struct cv_wait wait;
    int r = cv_pool_check(pool);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, pool, CV_POOL);
    if (r != 0)
        return r;
    if (cv_load_acquire(&pool->give.phase) == CV_POOL_OPEN)
        return cv_fail(COVEY_ESTATE, "the pool is not closed");
    for (;;) {
        struct cv_futex_watch word = {&pool->give.phase, cv_load_acquire(&pool->give.phase)};
        unsigned n;
        int broken = cv_pool_tend_and_list(pool, tags, &n);

        if (n == 0 || r < 0) {
            cv_wait_end(&wait);
            if (n == 0)
                return broken;
            return r == COVEY_ETIMEDOUT
                       ? cv_fail(r, "%u workers have not ended within %g s", n, timeout_s)
                       : r;
        }
        r = cv_wait_sleep(&wait, pool->give.alarm, word, NULL, 0, tags, n);
    }
}

int covey_pool_free(covey_pool *pool)
{
    int r;

    if (!pool)
        return 0;
    r = covey_pool_terminate(pool);
    if (r != 0)
        return r;
    cv_store_release(&pool->magic, 0);
    free_pool_memory(pool);
    return 0;
}

int covey_pool_workers(covey_pool *pool)
{
    int r = cv_pool_check(pool);

    return r == 0 || r == COVEY_ENOTOWNER ? (int)pool->workers : r;
}
