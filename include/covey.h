/* SPDX-License-Identifier: MIT */
/** covey.h - multiprocessing for C: all of covey's headers */
#ifndef COVEY_H
#define COVEY_H

#include <covey/error.h>
#include <covey/family.h>
#include <covey/lock.h>
#include <covey/memory.h>
#include <covey/pool.h>
#include <covey/process.h>
#include <covey/queue.h>

#endif
