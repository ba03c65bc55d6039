/* SPDX-License-Identifier: MIT */
#include "sync/holders.h"

#include "sync/lock.h"
#include "sync/rwlock.h"
#include "sync/semaphore.h"
#include "sync/waiter.h"

enum {
    HOLDINGS_MAX = 64
};

static unsigned of_lock(const covey_lock *lock, enum cv_kind kind, struct cv_hold *hold)
{
    uint64_t mark = cv_load_seq(&lock->word_) & ~CV_LOCK_SLEEPERS;
    bool by_thread = kind == CV_RLOCK || cv_self.detects;

    *hold = (struct cv_hold){.mark = mark, .tid = by_thread ? (uint32_t)cv_mark_pid(mark) : 0};
    return mark != 0;
}

static unsigned of_share(struct cv_share *share, struct cv_hold *holds, unsigned max)
{
    struct cv_holding holdings[HOLDINGS_MAX];
    unsigned n = cv_share_holdings(share, holdings, max < HOLDINGS_MAX ? max : HOLDINGS_MAX);

    if (n > max)
        n = max;
    for (unsigned i = 0; i < n; i++)
        holds[i] = (struct cv_hold){.mark = holdings[i].mark,
            .permits = holdings[i].permits == CV_SHARE_MAX ? 0 : holdings[i].permits};
    return n;
}

unsigned cv_holders_of(void *object, enum cv_kind kind, struct cv_hold *holds, unsigned max)
{
    if (max == 0 || !cv_object_is(object, kind))
        return 0;
    switch (kind) {
    case CV_LOCK:
    case CV_RLOCK:
        return of_lock(object, kind, holds);
    case CV_RWLOCK:
        return of_share(cv_rwlock_share(object), holds, max);
    case CV_SEMAPHORE:
        return of_share(cv_semaphore_share(object), holds, max);
    default:
        return 0;
    }
}
