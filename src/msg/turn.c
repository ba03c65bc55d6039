/* SPDX-License-Identifier: MIT */
#include "msg/turn.h"

#include "base/atomic.h"
#include "os/futex.h"
#include "sync/wait.h"

#include <covey/error.h>

enum {
    FREE,
    TAKEN,
    AWAITED,
};

int cv_turn_take(uint32_t *turn, uint64_t deadline_ns)
{
    struct cv_futex_watch watch = {turn, AWAITED};
    unsigned woken;

    if (cv_cas32(turn, FREE, TAKEN))
        return 0;
    while (deadline_ns && cv_exchange(turn, (uint32_t)AWAITED) != FREE) {
        switch (cv_futex_wait(&watch, 1, deadline_ns, &woken)) {
        case CV_FUTEX_TIMEDOUT:
            return COVEY_ETIMEDOUT;
        case CV_FUTEX_EINTR:
            if (cv_wait_interrupted(NULL) != 0)
                return COVEY_EINTR;
            break;
        default:
            break;
        }
    }
    return deadline_ns ? 0 : COVEY_ETIMEDOUT;
}

void cv_turn_give(uint32_t *turn)
{
    if (cv_exchange(turn, (uint32_t)FREE) == AWAITED)
        (void)cv_futex_wake(turn, 1);
}
