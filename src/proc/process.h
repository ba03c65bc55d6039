/* SPDX-License-Identifier: MIT */
/*
 * What the family knows of a process: the record in its member slot (arena/member.h, @room).
 *
 * The record is written by the parent while the slot is BORN, before the child exists. After that:
 *
 *   pid, started, failure   the process that forks it: parent or fork server; @started last, once
 *   own_exit                the child, when its function has returned
 *   ended                   whoever reaps it, once, by compare-exchange. Until then the child is
 * left a zombie, so a kill in between loses nothing and the next one to look finds it. Those who
 * find no zombie any more write @ended as well: that comes after the one who took it away, hence
 * changes nothing.
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
#include "os/wiped.h"

#include <covey/process.h>

#include <stdbool.h>
#include <stdint.h>

enum {
    CV_MESSAGE_BYTES = 256,
};

/* @ended: 0, or one of these and, in the upper half, the exit code or negative signal. */
enum {
    CV_RUNNING,
    CV_ENDED,      /* how it has ended is known */
    CV_ENDED_LOST, /* nobody can know it */
};

struct covey_process {
    uint32_t magic;
    uint32_t pid;
    uint64_t tag;
    uint64_t parent;    /* tag of the process that started it, 0: none */
    uint64_t reaper;    /* tag of the process whose child it is to the kernel, 0: unknown */
    uint64_t arguments; /* the block that tells a fresh image what to do (proc/start.h), 0: none */
    int32_t pidfd;      /* in the parent; -1: none */
    int32_t failure;    /* a code, when it could not be started */
    uint32_t started;   /* sleepers' word: 1 when pid or failure is there */
    uint32_t ended;     /* sleepers' word */
    uint32_t alarm;     /* always 0 */
    uint32_t bell;      /* of those who wait for started or ended */
    uint32_t own_exit;  /* CV_RETURNED | code */
    uint8_t daemon;
    uint8_t detached; /* no handle was given out */
    uint8_t method;   /* enum covey_method */
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
    int server_socket; /* + 1; 0: no fork server */
    uint64_t server;   /* its tag */
};

struct cv_own *cv_process_own(void);

covey_process *cv_process_record(uint64_t tag);

/* The record of a child that is about to be started; 0 or a code. */
int cv_process_prepare(const struct covey_process_options *options, covey_process **process);

/* A process that was given no name gets one, by its pid. */
void cv_process_name(covey_process *process, pid_t pid);

/* There will be no such child after all. */
void cv_process_cancel(covey_process *process);

/* Writes how a process has ended, and tells those who wait. */
void cv_process_set_ended(covey_process *process, uint32_t kind, int wait_status);

/* Takes away the zombies among the detached children. */
void cv_process_reap_detached(void);

#endif
