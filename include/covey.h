/* SPDX-License-Identifier: MIT */
/** covey.h - multiprocessing for C: all of covey's headers */
#ifndef COVEY_H
#define COVEY_H

#include <covey/array.h>
#include <covey/barrier.h>
#include <covey/condition.h>
#include <covey/connection.h>
#include <covey/descriptor.h>
#include <covey/error.h>
#include <covey/event.h>
#include <covey/family.h>
#include <covey/listener.h>
#include <covey/lock.h>
#include <covey/memory.h>
#include <covey/pipe.h>
#include <covey/pool.h>
#include <covey/process.h>
#include <covey/queue.h>
#include <covey/rlock.h>
#include <covey/rwlock.h>
#include <covey/semaphore.h>
#include <covey/wait.h>

#endif
