/* SPDX-License-Identifier: MIT */
/*
 * Threads of one process take turns: a lock for what may last long, so one gives up waiting for it at a
 * deadline or by an interrupt hook. It lies in private memory and dies with its process.
 *
 *   0         nobody's
 *   TAKEN     somebody's
 *   AWAITED   somebody's, and others may sleep
 *
 * Who has slept takes it as AWAITED, since it cannot know whether others still do; so a wake for nobody
 * is possible, and none is lost.
 */
#ifndef CV_TURN_H
#define CV_TURN_H

#include <stdint.h>

/* 0, COVEY_ETIMEDOUT without a message, or COVEY_EINTR. */
int cv_turn_take(uint32_t *turn, uint64_t deadline_ns);
void cv_turn_give(uint32_t *turn);

#endif
