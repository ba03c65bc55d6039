/* SPDX-License-Identifier: MIT */
/*
 * What the family knows of a process: the record in its member slot (arena/member.h, @room).
 *
 * The record is written by the parent while the slot is BORN, before the child exists. After that:
 *
 *   pid, started, failure   the process that forks it: parent or fork server; @started last, once
 *   own_exit                the child, when its function has returned
 *   ended                   whoever looks at it first when it has ended, by compare-exchange; he alone
 *                           then takes the zombie away. Until then it is left, so a kill in between
 *                           loses nothing and the next one to look finds it. Those who find no
 *                           zombie any more write @ended as well: that comes after the one who took
 *                           it away, hence changes nothing. The word has some of the tag in it, so
 *                           one who comes too late (the slot is another's) changes nothing either.
 *   detached                the parent's threads. The record of a detached child is the starter's
 *                           while STARTING; DETACHED is the starter's last write. Then whoever
 *                           exchanges that for TAKING is the one to look at the child: either it
 *                           still runs, and the word is DETACHED again, or the record is given up.
 *                           A handle is given out by DETACHED -> ATTACHED. Nobody else gives up a
 *                           record that its parent has written. This word, too, has some of the
 *                           tag in it, for threads that come too late.
 *
 * Who looks for his children walks over all records, also those that are just being written: magic,
 * tag, parent, daemon and detached are therefore read and written atomically, and what follows from
 * them is done by tag, which a record that has changed does not have.
 *
 * The pointer that users hold is the record's. Its memory is never anything but a record, so a
 * handle used too late reads a record, perhaps of a later process, and never garbage.
 */
#ifndef CV_PROCESS_H
#define CV_PROCESS_H

#include "arena/member.h"
#include "os/descriptor.h"

#include <covey/process.h>

#include <stdbool.h>
#include <stdint.h>

enum {
    CV_MESSAGE_BYTES = 256,
};

/* @ended: one of these; above it 8 bits of the generation; in the upper half the exit code or
 * negative signal. */
enum {
    CV_RUNNING,
    CV_ENDED,      /* how it has ended is known */
    CV_ENDED_LOST, /* nobody can know it */
};

static inline uint32_t cv_process_running(uint64_t tag)
{
    return CV_RUNNING | (uint32_t)(cv_tag_generation(tag) & 0xff) << 8;
}

/* @detached: one of these; above it 24 bits of the generation. */
enum {
    CV_ATTACHED, /* a handle was given out */
    CV_STARTING,
    CV_DETACHED,
    CV_TAKING,
};

static inline uint32_t cv_process_handle(uint64_t tag, uint32_t kind)
{
    return kind | (uint32_t)(cv_tag_generation(tag) & 0xffffff) << 8;
}

struct covey_process {
    uint32_t magic;
    uint32_t pid;
    uint64_t tag;
    uint64_t parent;    /* tag of the process that started it, 0: none */
    uint64_t reaper;    /* tag of the process whose child it is to the kernel, 0: unknown */
    uint64_t arguments; /* the block that tells a fresh image what to do (proc/start.h), 0: none */
    struct cv_descriptor pidfd; /* in the parent */
    int32_t failure;            /* a code, when it could not be started */
    uint32_t started;           /* sleepers' word: 1 when pid or failure is there */
    uint32_t ended;             /* sleepers' word */
    uint32_t alarm[2];
    uint32_t bell[2];  /* behind the alarm: of those who wait for started or ended */
    uint32_t own_exit; /* CV_RETURNED | code */
    uint32_t detached;
    uint8_t daemon;
    uint8_t method;    /* enum covey_method */
    uint8_t is_worker; /* 1: of a pool of its parent's, which alone gives it back */
    uint8_t unused;
    char name[COVEY_NAME_MAX + 1];
    char message[CV_MESSAGE_BYTES]; /* to @failure */
};

enum {
    CV_RETURNED = 0x100
};

_Static_assert(sizeof(struct covey_process) <= CV_MEMBER_ROOM, "a record fits its room");

/* What a process knows of itself on this floor; wiped in every child of a fork. */
struct cv_own {
    struct covey_process parent; /* a copy, for the parent's slot may have been used again */
    uint32_t children;           /* how many detached ones may be zombies: a hint */
    uint32_t server_lock;
    struct cv_descriptor server_socket;
    uint64_t server; /* its tag, 0: no fork server */
};

_Static_assert(sizeof(struct cv_own) <= CV_SELF_ROOM, "it has room");

static inline struct cv_own *cv_process_own(void)
{
    return (struct cv_own *)(void *)cv_self.room;
}

covey_process *cv_process_record(uint64_t tag);

/* The record of a child that is about to be started; 0 or a code. */
int cv_process_prepare(const struct covey_process_options *options, covey_process **process);

/* A process that was given no name gets one, by its pid. */
void cv_process_name(covey_process *process, pid_t pid);

/* There will be no such child after all. */
void cv_process_cancel(covey_process *process);

static inline bool cv_process_is_detached(covey_process *process)
{
    return (cv_load_acquire(&process->detached) & 0xff) != CV_ATTACHED;
}

static inline bool cv_process_has_ended(covey_process *process)
{
    return (cv_load_acquire(&process->ended) & 0xff) != CV_RUNNING;
}

/*
 * Writes how the process of @tag has ended, if it is still its record, and tells those who wait.
 * False if somebody else has written it before.
 */
bool cv_process_set_ended(covey_process *process, uint64_t tag, uint32_t kind, int wait_status);

/* The same when its status has been taken away by somebody else: what is left to know? */
void cv_process_set_lost(covey_process *process, uint64_t tag);

/* A child has been made: process @pid, which the kernel counts as this process's. */
void cv_process_set_started(covey_process *process, pid_t pid);

/* Nobody has a handle of it, or is still starting it: any thread may take it away when it has ended.
 */
void cv_process_detach(covey_process *process);

/* Takes away the zombies among the detached children. */
void cv_process_reap_detached(void);

#endif
