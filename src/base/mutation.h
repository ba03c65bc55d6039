/* SPDX-License-Identifier: MIT */
/*
 * What is done for the dead, step by step, each of which a test can take away.
 *
 * The kill sweep (tests/sweep/) proves that no kill at any instruction wedges or loses anything. It
 * is worth something only if it fails where a step of the recovery is missing: so with the build
 * option `testing` each can be left out, and the sweep must find that. Otherwise CV_RECOVERS() is
 * the constant true.
 */
#ifndef CV_MUTATION_H
#define CV_MUTATION_H

#include <stdbool.h>

/* X(name, what it does) */
#define CV_MUTATIONS(X)                                                                            \
    X(heap_claim, "a dead process's claim of pages is taken over")                                 \
    X(heap_length, "only pages that the dead had really claimed are freed")                        \
    X(heap_run, "a dead process's large blocks are freed")                                         \
    X(heap_tags, "a dead process's small blocks are freed")                                        \
    X(heap_shut, "a slab that a dead process was giving back is opened again")                     \
    X(heap_stale_tags, "a new slab has no tags of the dead")                                       \
    X(heap_give, "what is given to a process that has died meanwhile is freed")                    \
    X(heap_given, "also if the giver dies before it can")                                          \
    X(member_burial, "a dead member's slot is swept before it is free")                            \
    X(member_owns, "a member says that it owns blocks before it does")                             \
    X(member_abandon, "slots that the dead had reserved are closed")                               \
    X(member_stillborn, "a child that died before it came to life is found")                       \
    X(member_hand_over, "a child that is made does not depend on its parent any more")             \
    X(member_watchers, "life words that dead watchers had claimed are claimed anew")               \
    X(member_leaving, "a member that is killed while it leaves wakes who watches it")              \
    X(wait_lives, "who waits for a process is woken by its death")                                 \
    X(wait_alarm, "a dying process wakes those to whom it owed a wake")                            \
    X(wait_alarm_asleep, "so does one that has taken a wake and not used it")                      \
    X(wait_alarm_all, "who is woken by the alarm wakes all others")                                \
    X(wait_hook, "before a hook runs, all that sleep look whom to watch")                          \
    X(wait_hook_alarm, "and after it, a dying process wakes again those to whom it owed a wake")   \
    X(lock_takeover, "the lock of a dead holder is taken over")                                    \
    X(lock_next, "who takes a lock after a sleep has the next sleeper watch its life")             \
    X(lock_quit, "so does who gives up")                                                           \
    X(rlock_count, "how often the dead had taken an rlock is forgotten")                           \
    X(waiter_burial, "the waiter's records of the dead are free again")                            \
    X(waiter_reuse, "and looked for when there are no others")                                     \
    X(share_reap, "the permits of the dead are free again")                                        \
    X(share_next, "who takes a permit after a sleep has the next sleeper watch its life")          \
    X(share_quit, "so does who gives up")                                                          \
    X(share_cells, "a dead process's cell is used again before there are more of them")            \
    X(cells_settle, "a block of cells that the dead had linked is given to the family")            \
    X(cells_dangling, "one that was freed with its maker is unlinked")                             \
    X(rwlock_told, "the next one is told of a dead writer")                                        \
    X(rwlock_gate, "the gate of a dead writer is opened")                                          \
    X(rwlock_late, "he at the gate is told to watch a writer that came in beside it")              \
    X(rwlock_tell, "a reader that came in beside the gate tells the writer whom to watch")         \
    X(condition_pass_on, "what the dead were notified of, the next one is")                        \
    X(condition_pass_on_alarm, "and wakes, also if it is passed on by one who dies at that")       \
    X(condition_record, "the record of a waiter that has died says no more that it waits")         \
    X(condition_complete, "a notification that the dead had begun is completed")                   \
    X(condition_away, "also if it is in a hook and dies there, it is found")                       \
    X(condition_dead, "waiters that have died are not notified")                                   \
    X(barrier_dead, "a barrier whose party has died breaks")                                       \
    X(barrier_expected, "also if it was not there yet, and expected")                              \
    X(barrier_act_alarm, "who has acted wakes those who wait, also if it dies at that")            \
    X(barrier_cells, "a dead party's cell is used again before there are more of them")            \
    X(barrier_act, "those who wait learn whose action it is, to watch him")                        \
    X(queue_mend, "the tail moves over what a dead producer has committed")                        \
    X(queue_count, "queue_size() counts what a dead producer has committed")                       \
    X(queue_outgoing, "what a dead consumer was taking out is back, or is freed")                  \
    X(object_end, "an object that a dead process had is freed with all that is in it")             \
    X(queue_incoming, "what a dead producer was putting in is freed")                              \
    X(queue_intended, "with what goes with it")                                                    \
    X(descriptor_gone, "who has put a descriptor is told when its ticket is gone")                 \
    X(descriptor_taken, "and finds out that who has taken the ticket is dead")                     \
    X(descriptor_settled, "also if he was just taking it out of the queue")                        \
    X(queue_claims, "the items of dead consumers are given out again, or done")                    \
    X(users_dead, "a queue ends with its producers, also if they die")                             \
    X(users_heir, "a pipe is there for a forked child still, when its parent dies")                \
    X(users_bury, "the end of a pipe that a dead process has on its way is given up")              \
    X(users_settle, "and that which it was just putting into a queue, or taking out")              \
    X(pipe_keep, "who ends a pipe's last ticket has its block, should he die in that")             \
    X(process_daemons, "a burial ends the daemons of the dead")                                    \
    X(process_end_with_parent, "a daemon ends with its parent by itself")                          \
    X(process_lost, "a process whose status nobody can know any more has ended")                   \
    X(process_reaper, "the death of the fork server that was to tell of an end is noticed")        \
    X(server_death, "the death of the fork server that was asked is noticed")                      \
    X(server_withdraw, "a request that it had not served is withdrawn")                            \
    X(server_retry, "and made again with a new server")                                            \
    X(pool_replace, "a dead worker is replaced")                                                   \
    X(pool_lost_task, "the task of a dead worker has failed")                                      \
    X(pool_rest, "the rest of its chunk is done by others")                                        \
    X(pool_head, "for which the head of the queue goes back")                                      \
    X(pool_outcome, "an outcome that it was just writing does not count")

#if defined(CV_TESTING) && CV_TESTING
enum cv_mutation {
    CV_MUTATION_none,
#define X(name, what) CV_MUTATION_##name,
    CV_MUTATIONS(X)
#undef X
};

/* The step that is missing in this process and in those that it makes. */
extern enum cv_mutation cv_mutation;

#define CV_RECOVERS(name) (cv_mutation != CV_MUTATION_##name)

/* A nap (sync/wait.h) ends by itself, and hides for so long that a wake is missing: false in the sweep. */
extern bool cv_naps;

#define CV_NAPS cv_naps
#else
#define CV_RECOVERS(name) true
#define CV_NAPS           true
#endif

#endif
