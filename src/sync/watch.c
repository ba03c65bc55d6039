/* SPDX-License-Identifier: MIT */
#include "sync/watch.h"

#include "arena/family.h"
#include "base/error.h"
#include "os/thread.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BUCKETS = 256,
};

enum {
    ARMED,
    READY,
    ENDING,
};

struct watch {
    struct watch *next;
    void *object;
    const struct cv_any_kind *kind;
    struct cv_descriptor pipe[2]; /* to read; to write */
    uint32_t state;
    pthread_t thread;
    uint64_t asked; /* how often somebody has asked for the descriptor who may still use it */
};

uint32_t cv_watches;

static struct watch *buckets[BUCKETS];

/* The list *********************************************************************************** */

static struct watch **bucket_of(const void *object)
{
    return &buckets[((uintptr_t)object / CV_OBJECT_ALIGNMENT) % BUCKETS];
}

static void give_back(struct watch *w)
{
    cv_descriptor_close(&w->pipe[0]);
    cv_descriptor_close(&w->pipe[1]);
    free(w);
}

/* Those of the process that this one was forked from. */
static void forget(void)
{
    if (!cv_load_relaxed(&cv_watches))
        return;
    for (int i = 0; i < BUCKETS; i++) {
        while (buckets[i]) {
            struct watch *w = buckets[i];

            buckets[i] = w->next;
            give_back(w);
        }
    }
    cv_store_relaxed(&cv_watches, 0);
}

static struct cv_private own = {.lock = &cv_self.watching, .forget = forget};

static void lock(void)
{
    cv_private_lock(&own);
}

static void unlock(void)
{
    cv_private_unlock(&own);
}

static struct watch *find(const void *object)
{
    struct watch *w = *bucket_of(object);

    while (w && w->object != object)
        w = w->next;
    return w;
}

static void insert(struct watch *w)
{
    w->next = *bucket_of(w->object);
    cv_store_release(bucket_of(w->object), w);
    cv_store_relaxed(&cv_watches, cv_watches + 1);
}

static void take_out(struct watch *w)
{
    struct watch **p = bucket_of(w->object);

    while (*p != w)
        p = &(*p)->next;
    cv_store_release(p, w->next);
    cv_store_relaxed(&cv_watches, cv_watches - 1);
}

/* States, under the lock ********************************************************************* */

static void change(struct watch *w, uint32_t state)
{
    cv_store_seq(&w->state, state);
    (void)cv_futex_wake(&w->state, INT_MAX);
}

/* If the byte cannot be written, the end of the file is seen instead. */
static void make_ready(struct watch *w)
{
    if (cv_descriptor_is_ours(&w->pipe[1]) && !cv_descriptor_write(w->pipe[1].fd, "", 1))
        cv_descriptor_close(&w->pipe[1]);
    change(w, READY);
}

static void arm(struct watch *w)
{
    char byte;
    ssize_t n = -1;

    if (w->state != READY)
        return;
    if (cv_descriptor_is_ours(&w->pipe[0])) {
        do {
            n = read(w->pipe[0].fd, &byte, 1);
        } while (n < 0 && errno == EINTR);
    }
    if (n == 1 || (n < 0 && errno == EAGAIN))
        change(w, ARMED);
}

/* The thread ********************************************************************************* */

static void tell(struct watch *w)
{
    lock();
    if (w->state == ARMED)
        make_ready(w);
    unlock();
}

static void sleep_until_armed(struct watch *w)
{
    const struct cv_futex_watch ready = {&w->state, READY};
    unsigned woken;

    (void)cv_futex_wait(&ready, 1, CV_FOREVER, &woken);
}

/* True when it is ready, or gone; false when the state may have changed. */
static bool wait_for(struct watch *w, struct cv_wait *wait)
{
    struct cv_target target;
    struct cv_watched_lives lives = {.n = 0};

    if (w->kind->look(w->object, true, &target, &lives) != 0)
        return true;
    (void)cv_wait_sleep_any(wait, &target, 1, lives.tags, lives.n);
    return false;
}

static void *run(void *argument)
{
    struct watch *w = argument;
    struct cv_wait wait = {.deadline_ns = CV_FOREVER, .stop = {&w->state, ARMED}};
    uint32_t state;

    cv_thread_name();
    while ((state = cv_load_seq(&w->state)) != ENDING) {
        if (state == ARMED && wait_for(w, &wait)) {
            cv_wait_end(&wait);
            tell(w);
        } else if (state == READY) {
            sleep_until_armed(w);
        }
    }
    cv_wait_end(&wait);
    return NULL;
}

/* Opening and closing ************************************************************************ */

static struct watch *make(void *object, const struct cv_any_kind *kind)
{
    struct watch *w = calloc(1, sizeof *w);

    if (!w) {
        (void)cv_fail(COVEY_ENOMEM, "no memory for a descriptor of %p", object);
        return NULL;
    }
    w->object = object;
    w->kind = kind;
    if (cv_descriptor_pipe(w->pipe) != 0 || cv_thread_start(&w->thread, run, w) != 0) {
        give_back(w);
        return NULL;
    }
    insert(w);
    return w;
}

/* Under the lock, which it leaves meanwhile. Only one thread ends it; the others look again. */
static void end(struct watch *w)
{
    bool mine = w->state != ENDING;

    if (mine)
        change(w, ENDING);
    unlock();
    if (mine)
        (void)pthread_join(w->thread, NULL);
    else
        cv_clock_sleep(CV_NS_PER_MS);
    lock();
    if (mine) {
        take_out(w);
        give_back(w);
    }
}

static bool is_whole(const struct watch *w, const struct cv_any_kind *kind)
{
    return w->kind == kind && w->state != ENDING && cv_descriptor_is_ours(&w->pipe[0]) &&
           cv_descriptor_is_ours(&w->pipe[1]);
}

int cv_watch_open(void *object, const struct cv_any_kind *kind)
{
    struct watch *w;
    int fd;

    lock();
    while ((w = find(object)) && !is_whole(w, kind)) /* the program, or who freed the object */
        end(w);
    if (w)
        arm(w);
    else
        w = make(object, kind);
    if (w)
        w->asked++;
    fd = w ? w->pipe[0].fd : covey_error_code();
    unlock();
    return fd;
}

static struct watch *find_by_descriptor(int fd)
{
    for (int i = 0; i < BUCKETS; i++) {
        for (struct watch *w = buckets[i]; w; w = w->next) {
            if (w->pipe[0].fd == fd && w->state != ENDING)
                return w;
        }
    }
    return NULL;
}

void cv_watch_give_back(int fd, uint64_t asked)
{
    struct watch *w;

    lock();
    w = find_by_descriptor(fd);
    if (w)
        w->asked -= asked < w->asked ? asked : w->asked;
    if (w && !w->asked)
        end(w);
    unlock();
}

int cv_watch_close(const void *object)
{
    struct watch *w;
    int closed = 0;

    if (!cv_load_relaxed(&cv_watches))
        return 0;
    lock();
    while ((w = find(object))) {
        end(w);
        closed = 1;
    }
    unlock();
    return closed;
}

void cv_watch_arm_slowly(const void *object)
{
    struct watch *w;

    lock();
    w = find(object);
    if (w)
        arm(w);
    unlock();
}

/* This process leaves the family. */
static bool sweep(uint64_t tag)
{
    if (tag != cv_self.tag || !cv_load_relaxed(&cv_watches))
        return true;
    lock();
    for (int i = 0; i < BUCKETS; i++) {
        while (buckets[i])
            end(buckets[i]);
    }
    unlock();
    return true;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_set_sweep(CV_SWEEP_WATCHES, sweep);
    cv_private_add(&own);
}
