/* SPDX-License-Identifier: MIT */
/*
 * Users of an end: the processes that put into a queue, or that hold an end of a pipe. When none is left,
 * others wait for them in vain, and must be told.
 *
 * Each has a cell (sync/cells.h), whose value says what it is:
 *
 *   0        nothing: the cell was claimed just now
 *   EXPECTED it has made the end, or is started with it, and may use it
 *   HERE     it has used it, or was given it
 *   LEFT     it has said that it will not use it any more
 *
 * Only the process itself changes its value, but for the first: who starts it with the end writes EXPECTED before,
 * and HERE when there is such a process; who gives it the end otherwise writes HERE. Nothing is
 * left half done by a kill; a dead process's cell stays as it is, for it tells that there was one, whose
 * children may have the end. Only when there is no other, and that does not matter, does the next one get
 * it: the value becomes 0, and then the mark. The upper half of a value counts how often that was, and how
 * often it became HERE; so who comes late with a value that he read before the mark misses. A process
 * whose threads come at the same time may have two cells: it is here if one of them says so, has left when
 * both do, and counts once. So it may if somebody gives it the end while it comes by itself: he leaves
 * his cell at 0.
 *
 * A ticket (msg/pipe.h) has a cell like a process, with a mark that no process has; it is dropped when it
 * ends. Before that it may be over, or have an owner who has died: then it counts no more. Where there are only tickets,
 * who waits looks again every 20 ms: nobody's life tells of theirs.
 *
 * Who waits for users to go watches the life of one who is HERE: as long as that one is, not all are gone. If
 * nobody is or has been, he watches all who are EXPECTED, and their children (below): each may be the first to
 * come. One that leaves, or is the first of all that are needed, rings; so he looks after he has armed the
 * bell. (One that is needed rings as soon as he has a cell, too, and is watched from then on: else, killed before
 * he rings for having come, he would wake nobody who was just about to sleep.)
 *
 * One may come to a cell that was looked at already, and who has given him the end may go before its cell is.
 * So nobody is there only if none was seen, and the sum of all counts is what it was before. (Who leaves does so
 * after the other's cell says HERE, and who is dead stays that.)
 *
 * The same if nobody has been HERE before: the first one may have come and died meanwhile, which ends what the
 * next lines say.
 *
 * As long as nobody is or has been HERE, those who are EXPECTED count, and the children of all who have a
 * cell that were made by a fork later than the end, for that has given them it, too; but not those that are
 * HERE at the other end of the pipe, and not who asks. From then on, only those count that are HERE.
 *
 * The mark of a process is its tag as marks have it, without a pid: who starts it does not know that yet.
 */
#ifndef CV_USERS_H
#define CV_USERS_H

#include "sync/cells.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cv_users {
    struct cv_cells cells;
    uint32_t needed; /* so many must have been here before all can be gone; 0: they have */
    uint32_t used;   /* 1: somebody is here, or has been */
    uint64_t other;  /* address of the users of the other end of a pipe; 0: there is none */
    uint64_t
        since_ns; /* boot clock: it was made; children that lived before were not made with it */
};

enum cv_user {
    CV_USER_NONE,
    CV_USER_EXPECTED,
    CV_USER_HERE,
    CV_USER_LEFT,
};

/* As a user: the process. */
uint64_t cv_users_process(uint64_t tag);

/* Gives process @mark a cell, if there is one without more memory: then what follows needs none. */
bool cv_users_claim(struct cv_users *users, uint64_t mark);

/* The same, with more memory if need be. 0, or a code with its message. */
int cv_users_reserve(struct cv_users *users, uint64_t mark);

/* Makes this process one: 1 when that is new, and all who wait for users to go are to be woken; 0; or a
 * code with its message. */
int cv_users_be(struct cv_users *users, enum cv_user what);

/* As a user: the ticket that lies there; and where that is. */
uint64_t cv_users_ticket(const void *block);
void *cv_users_ticket_block(uint64_t mark);

/* Process @mark is about to be started with the end. 0, or a code with its message. */
int cv_users_expect(struct cv_users *users, uint64_t mark);

/* Process @mark, or the ticket, is here. 0, or a code with its message. */
int cv_users_give(struct cv_users *users, uint64_t mark);

/* What had the mark is there no more, and its cell nobody's: true if it had one. */
bool cv_users_drop(struct cv_users *users, uint64_t mark);

/* What this process is. */
enum cv_user cv_users_own(struct cv_users *users);

/* How often anything has become HERE, or a cell 0 again: only grows. */
uint64_t cv_users_comings(struct cv_users *users);

/* One that is here or expected: the process with the short tag @first, if it is; a ticket, if there is no
 * living process; 0: nobody. */
uint64_t cv_users_holder(struct cv_users *users, uint32_t first);
bool cv_users_is_dead(uint64_t mark);
bool cv_users_can_hold(uint64_t mark); /* a process that lives, and is not leaving */
bool cv_users_is_ticket(uint64_t mark);

/* A process that may have the end by a fork, and has not used it yet; 0: there is none, or it does not matter,
 * for others have used it. */
uint64_t cv_users_heir(struct cv_users *users);

/* Is one of the @looks cells from *@next on that of one who was here when it ended? *@next: those after them. */
bool cv_users_find_dead(struct cv_users *users, uint32_t *next, unsigned looks);

/* The sum of the marks of those that were here when they ended: another one, if others have. */
uint64_t cv_users_dead(struct cv_users *users);

/* The pid of one that was here when it ended; 0: nobody's that is known. */
pid_t cv_users_lost(struct cv_users *users);

/* Are all gone? If not, adds the tags of those whose lives are to be watched to @tags, of which there are *@n. */
bool cv_users_are_gone(struct cv_users *users, uint64_t *tags, unsigned max, unsigned *n);

/* Adds the tags of all who are here: each matters. */
void cv_users_watch(struct cv_users *users, uint64_t *tags, unsigned max, unsigned *n);

/* Does one of the cells that lie in @own say that this process is here? If so, it is; nothing else is read. */
bool cv_users_are_here(const struct cv_users *own);

/* Is this process here, and somebody there? False: ask the functions above. */
bool cv_users_see(struct cv_users *own, struct cv_users *others);

#endif
