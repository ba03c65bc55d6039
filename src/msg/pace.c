/* SPDX-License-Identifier: MIT */
/*
 * Where both ends are at work at once, the lines that both touch cost more than all else. So a consumer may
 * leave them alone for a while when it has found nothing, and then has much at once. That helps only where
 * much comes; so now and then a thread tries it, and does it as long as more items come in the same time.
 */
#include "msg/queue.h"

#include "os/clock.h"

#define WORTH 1.1 /* so much more must come with gaps */

enum {
    GAP_NS = 50 * 1000,
    GAP_PAUSES = 32, /* between two looks at the clock */
    GAPS = 128,      /* of a phase with them */
    RUN_MIN = 64,    /* items behind a gap, below which it was in vain at once */
    RUNS = 2048,     /* of a phase without gaps; twice as many each time that they were in vain */
    RUNS_BETWEEN = 512, /* if they were not */
    VAIN_MAX = 8,
};

static _Thread_local struct {
    const covey_queue *queue;
    uint64_t since_ns; /* the phase has begun: */
    uint64_t items;    /* got */
    uint32_t runs;     /* times that nothing was there */
    uint32_t runs_max; /* after which it ends */
    bool leaves;       /* gaps */
    uint32_t vain;     /* phases with gaps that were in vain, one after the other */
    double rate;       /* items in a nanosecond, without gaps */
} pacing;

static void begin_phase(bool leaves)
{
    pacing.leaves = leaves;
    pacing.since_ns = cv_clock_now();
    pacing.items = pacing.runs = 0;
    pacing.runs_max = leaves ? GAPS : pacing.vain ? RUNS << pacing.vain : RUNS_BETWEEN;
}

static void give_up_gaps(void)
{
    pacing.vain += pacing.vain < VAIN_MAX;
    begin_phase(false);
}

static void end_phase(void)
{
    double rate = (double)pacing.items / (double)(cv_clock_now() - pacing.since_ns);

    if (!pacing.leaves) {
        pacing.rate = rate;
        begin_phase(true);
    } else if (rate < pacing.rate * WORTH) {
        give_up_gaps();
    } else {
        pacing.vain = 0;
        begin_phase(false); /* is it better still? */
    }
}

static void leave_gap(void)
{
    uint64_t end_ns = cv_clock_now() + GAP_NS;

    do {
        for (int i = 0; i < GAP_PAUSES; i++)
            cv_relax();
    } while (cv_clock_now() < end_ns);
}

void cv_queue_pace(covey_queue *q)
{
    uint32_t run = cv_load_relaxed(&q->get.run);

    cv_store_relaxed(&q->get.run, 0);
    if (pacing.queue != q) {
        pacing.queue = q;
        pacing.vain = 1;
        begin_phase(false);
    }
    pacing.items += run;
    if (pacing.leaves && pacing.runs && run < RUN_MIN)
        give_up_gaps();
    else if (++pacing.runs > pacing.runs_max)
        end_phase();
    if (pacing.leaves)
        leave_gap();
}
