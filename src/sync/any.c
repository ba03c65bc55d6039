/* SPDX-License-Identifier: MIT */
#include "sync/any.h"

#include "base/error.h"
#include "sync/watch.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WAITED_MAX = 1024,
    KINDS = COVEY_WAIT_FUTURE + 1,
    BUSY_NS = 20 * CV_NS_PER_MS,
};

static const struct cv_any_kind *kinds[KINDS];
static void (*ends[KINDS])(void *object);

void cv_any_set(enum covey_waitable kind, const struct cv_any_kind *functions)
{
    kinds[kind] = functions;
}

void cv_any_set_end(enum covey_waitable kind, void (*end)(void *object))
{
    ends[kind] = end;
}

static bool has_life(const struct cv_watched_lives *lives, uint64_t tag)
{
    unsigned i = 0;

    while (i < lives->n && lives->tags[i] != tag)
        i++;
    return i < lives->n;
}

void cv_watched_lives_add(struct cv_watched_lives *lives, const uint64_t *tags, unsigned n)
{
    for (unsigned i = 0; i < n && lives->n < CV_WAIT_TAGS_MAX; i++) {
        if (!has_life(lives, tags[i]))
            lives->tags[lives->n++] = tags[i];
    }
}

static bool is_descriptor(const struct covey_waited *w)
{
    return w->kind == COVEY_WAIT_DESCRIPTOR;
}

static int check_one(const struct covey_waited *w)
{
    if (is_descriptor(w))
        return w->descriptor >= 0 ? 0 : cv_fail(COVEY_EINVAL, "%d is no descriptor", w->descriptor);
    if ((unsigned)w->kind >= KINDS || !kinds[w->kind])
        return cv_fail(COVEY_EINVAL, "there is no kind %d", (int)w->kind);
    return kinds[w->kind]->check(w->object);
}

/* The same failure, with which of the things has it. */
static int name_thing(int code, size_t i)
{
    char why[CV_ERROR_BYTES];

    (void)snprintf(why, sizeof why, "%s", covey_error());
    return cv_fail(code, "thing %zu: %s", i, why);
}

static void end(const struct covey_waited *waited, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ends[waited[i].kind])
            ends[waited[i].kind](waited[i].object);
    }
}

static int check(const struct covey_waited *waited, size_t n)
{
    if ((!waited && n) || n > WAITED_MAX)
        return cv_fail(COVEY_EINVAL, "%zu things to wait for%s: it can be up to %d", n,
            waited ? "" : ", at NULL", WAITED_MAX);
    for (size_t i = 0; i < n; i++) {
        int r = check_one(&waited[i]);

        if (r != 0) {
            r = name_thing(r, i);
            end(waited, i);
            return r;
        }
    }
    return 0;
}

static bool needs_poll(const struct covey_waited *waited, size_t n)
{
    bool needs = n == 0 || n > CV_TARGETS_MAX;

    for (size_t i = 0; i < n && !needs; i++)
        needs = is_descriptor(&waited[i]) || kinds[waited[i].kind]->by_descriptor != CV_ANY_SECOND;
    return needs;
}

/* Asleep on all words ************************************************************************ */

struct looked {
    unsigned n;
    struct cv_target targets[CV_TARGETS_MAX];
    struct cv_watched_lives lives;
};

/* How many are ready, or a code; by what the others are to be waited for. */
static int look(struct covey_waited *waited, size_t n, bool arm, struct looked *l)
{
    int ready = 0;

    l->n = 0;
    l->lives.n = 0;
    for (size_t i = 0; i < n; i++) {
        int r = kinds[waited[i].kind]->look(waited[i].object, arm, &l->targets[l->n], &l->lives);

        if (r < 0) {
            ready = name_thing(r, i);
            break;
        }
        waited[i].ready = (short)r;
        ready += r;
        l->n += r == 0;
    }
    for (unsigned i = 0; arm && ready != 0 && i < l->n; i++)
        cv_bell_disarm(&l->targets[i].armed);
    return ready;
}

static bool spin(struct cv_wait *wait, const struct looked *l)
{
    const struct cv_futex_watch *word = &l->targets[0].words[0];

    return l->n == 1 && cv_wait_spin(wait, word->word, word->seen);
}

static int wait_asleep(struct covey_waited *waited, size_t n, struct cv_wait *wait)
{
    struct looked l;
    int slept = 0;
    int ready;

    while ((ready = look(waited, n, false, &l)) == 0 && slept >= 0) {
        if (wait->deadline_ns == 0)
            slept = COVEY_ETIMEDOUT;
        else if (!spin(wait, &l) && (ready = look(waited, n, true, &l)) == 0)
            slept = cv_wait_sleep_any(wait, l.targets, l.n, l.lives.tags, l.lives.n);
        if (ready != 0)
            break;
    }
    cv_wait_end(wait);
    return ready != 0 ? ready : slept;
}

/* By poll() ********************************************************************************** */

/* The descriptor of an object, */
struct polled_by {
    struct cv_descriptor own; /* which is only for this call, */
    int kept;                 /* or stays, */
    uint64_t asked;           /* and was asked for so often */
};

struct polled {
    struct pollfd *fds;
    struct polled_by *by;
    bool is_busy; /* something is to be looked at soon, whatever poll() says */
};

/* Objects that are ready are not polled for, nor what is busy; the others' descriptors are readable when
 * they may be ready. */
static int look_or_arm(struct covey_waited *w, struct pollfd *fd, struct polled_by *by)
{
    const struct cv_any_kind *kind = kinds[w->kind];
    struct cv_target target;
    struct cv_watched_lives lives = {.n = 0};
    int r = kind->look(w->object, false, &target, &lives);

    if (r < 0)
        return r;
    w->ready = (short)(r == 1);
    fd->fd = -1;
    if (r == 0 && by->own.fd >= 0) {
        fd->fd = by->own.fd;
    } else if (r == 0) {
        fd->fd = kind->descriptor(w->object, &by->own);
        if (fd->fd >= 0 && by->own.fd < 0) {
            by->kept = fd->fd;
            by->asked++;
        }
    }
    if (r == 0 && fd->fd == COVEY_ETIMEDOUT)
        return CV_ANY_BUSY;
    return r == 0 && fd->fd < 0 ? fd->fd : r;
}

/* How many are ready, descriptors aside; or a code. */
static int prepare(struct covey_waited *waited, size_t n, struct polled *p)
{
    int ready = 0;

    p->is_busy = false;
    for (size_t i = 0; i < n; i++) {
        struct pollfd *fd = &p->fds[i];
        int r = 0;

        fd->events = POLLIN;
        if (is_descriptor(&waited[i])) {
            fd->fd = waited[i].descriptor;
            if (waited[i].events)
                fd->events = waited[i].events;
        } else {
            r = look_or_arm(&waited[i], fd, &p->by[i]);
        }
        if (r < 0)
            return name_thing(r, i);
        if (r == CV_ANY_BUSY)
            p->is_busy = true;
        else
            ready += r;
    }
    return ready;
}

/* What poll() has said; objects are asked themselves. */
static int collect(struct covey_waited *waited, size_t n, const struct polled *p)
{
    int ready = 0;

    for (size_t i = 0; i < n; i++) {
        struct covey_waited *w = &waited[i];
        int revents = p->fds[i].fd >= 0 ? p->fds[i].revents : 0;
        struct cv_target target;
        struct cv_watched_lives lives = {.n = 0};
        int r = 0;

        if (is_descriptor(w))
            w->ready = (short)revents;
        else if (revents && kinds[w->kind]->by_descriptor == CV_ANY_READY)
            w->ready = 1;
        else if (!w->ready && (revents || kinds[w->kind]->by_descriptor != CV_ANY_READABLE))
            r = kinds[w->kind]->look(w->object, false, &target, &lives);
        if (r < 0)
            return name_thing(r, i);
        if (r == 1)
            w->ready = 1;
        ready += w->ready != 0;
    }
    return ready;
}

/* What is busy has to be looked at again: nothing tells when the other thread leaves it. */
static uint64_t end_of_poll(const struct polled *p, uint64_t deadline_ns)
{
    uint64_t soon = p->is_busy ? cv_clock_now() + BUSY_NS : CV_FOREVER;

    return soon < deadline_ns ? soon : deadline_ns;
}

/* What poll() finds may come to nothing time and again. */
static int poll_all(struct covey_waited *waited, size_t n, struct polled *p, uint64_t deadline_ns)
{
    int ready = 0;
    int r;

    do {
        r = prepare(waited, n, p);
        if (r == 0)
            r = cv_wait_hear();
        if (r < 0)
            return r;
        r = cv_descriptor_poll(p->fds, n, r > 0 ? 0 : end_of_poll(p, deadline_ns));
        if (r == COVEY_EINTR)
            r = cv_wait_interrupted(NULL);
        else if (r >= 0 || r == COVEY_ETIMEDOUT)
            ready = collect(waited, n, p);
        if (r < 0 && r != COVEY_ETIMEDOUT)
            break;
        r = COVEY_ETIMEDOUT;
    } while (ready == 0 && deadline_ns > cv_clock_now());
    return ready != 0 ? ready : r;
}

/* What failed leaves no descriptor that there was not before. */
static void let_go(struct polled_by *by, bool has_failed)
{
    cv_descriptor_close(&by->own);
    if (has_failed && by->asked)
        cv_watch_give_back(by->kept, by->asked);
}

static int wait_by_poll(struct covey_waited *waited, size_t n, uint64_t deadline_ns)
{
    struct polled p = {calloc(n + 1, sizeof *p.fds), calloc(n + 1, sizeof *p.by), false};
    int r;

    for (size_t i = 0; p.by && i < n; i++)
        p.by[i].own = CV_NO_DESCRIPTOR;
    r = p.fds && p.by ? poll_all(waited, n, &p, deadline_ns)
                      : cv_fail(COVEY_ENOMEM, "no memory for %zu things to wait for", n);
    for (size_t i = 0; p.by && i < n; i++)
        let_go(&p.by[i], r < 0 && r != COVEY_ETIMEDOUT && r != COVEY_EINTR);
    free(p.by);
    free(p.fds);
    return r;
}

/* Public ************************************************************************************* */

int covey_wait(struct covey_waited *waited, size_t n, double timeout_s)
{
    struct cv_wait wait;
    int r = cv_wait_begin(&wait, timeout_s, NULL, 0);

    if (r == 0)
        r = check(waited, n);
    if (r != 0)
        return r;
    for (size_t i = 0; i < n; i++)
        waited[i].ready = 0;
    r = needs_poll(waited, n) ? wait_by_poll(waited, n, wait.deadline_ns)
                              : wait_asleep(waited, n, &wait);
    end(waited, n);
    return r == COVEY_ETIMEDOUT
               ? cv_fail(r, "none of %zu things was ready within %g s", n, timeout_s)
               : r;
}
