/* SPDX-License-Identifier: MIT */
/*
 * The condition, at which consumers wait for items: as many notifications as items, so whoever dies
 * with one must not take it along.
 */
#include "sync/condition.h"
#include "arena/member.h"
#include "os/clock.h"
#include "os/pid.h"
#include "sweep.h"
#include "sync/lock.h"
#include "sync/waiter.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct box {
    covey_lock lock;
    covey_condition filled;
    int items;
    int got; /* by rescuers */
} * b;

static void set_up(void)
{
    b = covey_calloc(1, sizeof *b);
    check_int(covey_lock_init(&b->lock), ==, 0);
    check_int(covey_condition_init(&b->filled, &b->lock), ==, 0);
}

/* Who is told that one has died with the lock does not know what that one was about to do. */
static void mend_if(int r)
{
    if (r == COVEY_EOWNERDEAD)
        check_int(covey_condition_notify_all(&b->filled), ==, 0);
}

static int take(double timeout_s)
{
    int r = covey_lock_acquire(&b->lock, timeout_s);

    check(r == 0 || r == COVEY_EOWNERDEAD || sweep_is_fine(r));
    mend_if(r);
    return r;
}

static void leave(void)
{
    check_int(covey_lock_release(&b->lock), ==, 0);
}

static void take_item(void)
{
    while (b->items == 0) {
        int r = covey_condition_wait(&b->filled, COVEY_FOREVER);

        check(r == 0 || r == COVEY_EOWNERDEAD);
        mend_if(r);
    }
    __atomic_store_n(&b->items, b->items - 1, __ATOMIC_SEQ_CST);
}

static void consume(void)
{
    (void)take(COVEY_FOREVER);
    take_item();
    leave();
}

static void rescuer_consumes(void)
{
    (void)take(COVEY_FOREVER);
    take_item();
    b->got++;
    leave();
}

static void put(int n)
{
    b->items += n;
    check_int(covey_condition_notify(&b->filled, n), ==, 0);
}

/* One for V, one for one of the others. */
static bool put_two(void)
{
    if (take(sweep_patience()) == COVEY_ETIMEDOUT)
        return false;
    put(2);
    leave();
    return true;
}

/* So many items must be there in all as there are rescuers, and one for V if it sleeps, and no more
 * notifications than items that are new. */
static void put_what_is_missing(void)
{
    int missing;

    (void)take(COVEY_FOREVER);
    missing = (int)sweep_rescuers() + !sweep_is_dead() - b->got - b->items;
    if (missing > 0)
        put(missing);
    leave();
}

static void done(void)
{
    int n = (int)sweep_rescuers();

    (void)take(1);
    check(b->got == n || (b->got == n - 1 && !sweep_rescuer_finished()));
    leave();
    check_int(covey_condition_destroy(&b->filled), ==, 0);
    check_int(covey_lock_destroy(&b->lock), ==, 0);
    check_int(covey_free(b), ==, 0);
}

OPERATION(condition_wait, .setup = set_up, .victim = consume, .unblock = put_two,
    .after = put_what_is_missing, .rescue = rescuer_consumes, .rescuers = 2,
    .when = RESCUE_SLEEPS_LATE, .verify = done, .proves = "condition_pass_on condition_dead");

static void produce(void)
{
    (void)take(COVEY_FOREVER);
    put(1);
    leave();
}

OPERATION(condition_notify, .setup = set_up, .victim = produce, .after = put_what_is_missing,
    .rescue = rescuer_consumes, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm");

static void produce_for_all(void)
{
    (void)take(COVEY_FOREVER);
    b->items += 2;
    check_int(covey_condition_notify_all(&b->filled), ==, 0);
    leave();
}

OPERATION(condition_notify_all, .setup = set_up, .victim = produce_for_all,
    .after = put_what_is_missing, .rescue = rescuer_consumes, .rescuers = 2,
    .when = RESCUE_SLEEPS_FIRST, .verify = done, .proves = "wait_alarm");

/* Giving up ********************************************************************************** */

static int is_filled(void *context)
{
    (void)context;
    return b->items > 0;
}

/* True with the lock held, and an item there. */
static bool wait_a_moment(double timeout_s)
{
    int r;

    (void)take(COVEY_FOREVER);
    do {
        r = covey_condition_wait_for(&b->filled, is_filled, NULL, timeout_s);
        mend_if(r);
    } while (r == COVEY_EOWNERDEAD);
    check(r == 0 || r == COVEY_ETIMEDOUT);
    return r == 0;
}

static void consume_or_give_up(void)
{
    if (wait_a_moment(0.03))
        take_item();
    leave();
}

OPERATION(condition_give_up, .setup = set_up, .victim = consume_or_give_up,
    .after = put_what_is_missing, .rescue = rescuer_consumes, .rescuers = 2,
    .when = RESCUE_SLEEPS_LATE, .verify = done, .is_slow = true);

/*
 * The first rescuer gives up while V is stopped in the middle of a notification that was to be his: V
 * must choose the other one then.
 */
enum {
    GAVE_UP = 1,
    CONSUMED = 2,
};

static void one_gives_up(void)
{
    int r;

    if (sweep_rescuer() > 0) {
        rescuer_consumes();
        return;
    }
    (void)take(COVEY_FOREVER);
    r = covey_condition_wait(&b->filled, sweep_will_be_stalled() ? 0.04 : 0.3);
    check(r == 0 || r == COVEY_ETIMEDOUT || r == COVEY_EOWNERDEAD);
    mend_if(r);
    if (r == 0) {
        take_item();
        b->got++;
    }
    sweep_tell(0, r == 0 ? CONSUMED : GAVE_UP);
    leave();
}

/* One for each that still wants one; no notification if they are there. */
static void give_what_is_missing(void)
{
    int missing;

    while (!sweep_told(0))
        (void)usleep(1000);
    (void)take(COVEY_FOREVER);
    missing = (int)sweep_told(0) - b->got - b->items;
    if (missing > 0)
        put(missing);
    leave();
}

static void all_have_theirs(void)
{
    (void)take(1);
    check_int(b->got, ==, sweep_told(0));
    leave();
    check_int(covey_condition_destroy(&b->filled), ==, 0);
    check_int(covey_lock_destroy(&b->lock), ==, 0);
    check_int(covey_free(b), ==, 0);
}

OPERATION(condition_notify_given_up, .setup = set_up, .victim = produce,
    .after = give_what_is_missing, .rescue = one_gives_up, .rescuers = 2,
    .when = RESCUE_SLEEPS_FIRST, .verify = all_have_theirs, .is_slow = true);

static bool put_another(void)
{
    (void)take(COVEY_FOREVER);
    put(1);
    leave();
    return true;
}

/* Interrupted ******************************************************************************** */

/* It uses another lock: so the alarm of this one must be set again. */
static covey_lock *inner;
static pid_t giver;

enum {
    GO = 8 /* told: it may begin */
};

static int use_another_lock(void *context)
{
    int r = covey_lock_acquire(inner, COVEY_FOREVER);

    (void)context;
    check(r == 0 || r == COVEY_EOWNERDEAD);
    check_int(covey_lock_release(inner), ==, 0);
    return 0;
}

static void see_signal(int signal)
{
    (void)signal;
}

static void watch_for_signals(void)
{
    struct sigaction action = {.sa_handler = see_signal};

    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(use_another_lock, NULL);
}

/* A process that gives one item, and interrupts V when that has been notified and wants the lock. */
static void give_and_interrupt(void)
{
    while (!sweep_told(GO))
        (void)usleep(500);
    (void)take(COVEY_FOREVER);
    put(1);
    for (int ms = 0; ms < 30 && !(cv_load_seq(&b->lock.word_) & CV_LOCK_SLEEPERS); ms++)
        (void)usleep(1000);
    (void)kill(sweep_victim_pid(), SIGUSR1);
    (void)usleep(3000);
    leave();
}

static void set_up_interrupted(void)
{
    set_up();
    inner = covey_calloc(1, sizeof *inner);
    check_int(covey_lock_init(inner), ==, 0);
    giver = sweep_fork_asleep(give_and_interrupt);
}

static bool go(void)
{
    sweep_tell(GO, 1);
    return true;
}

static void done_interrupted(void)
{
    int r = covey_lock_acquire(inner, 1);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    check_int(covey_lock_release(inner), ==, 0);
    check_int(covey_lock_destroy(inner), ==, 0);
    check_int(covey_free(inner), ==, 0);
    sweep_kill(giver);
    done();
}

OPERATION(condition_interrupted, .setup = set_up_interrupted, .warm = watch_for_signals,
    .victim = consume, .unblock = go, .after = put_what_is_missing, .rescue = rescuer_consumes,
    .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done_interrupted, .is_slow = true,
    .only_kill = true, .proves = "wait_hook");

/* V is interrupted first, and notified when it is in the hook, or behind it, or sleeps again. */
static bool is_interrupted;

static void set_up_to_interrupt(void)
{
    set_up();
    inner = covey_calloc(1, sizeof *inner);
    check_int(covey_lock_init(inner), ==, 0);
    is_interrupted = false;
}

static bool interrupt_and_put(void)
{
    if (is_interrupted || sweep_is_dead() || sweep_is_stalled()) {
        if (take(sweep_patience()) == COVEY_ETIMEDOUT)
            return false;
        put(1);
        leave();
        return true;
    }
    is_interrupted = true;
    check_int(kill(sweep_victim_pid(), SIGUSR1), ==, 0);
    return false;
}

static void done_with_inner(void)
{
    int r = covey_lock_acquire(inner, 1);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    check_int(covey_lock_release(inner), ==, 0);
    check_int(covey_lock_destroy(inner), ==, 0);
    check_int(covey_free(inner), ==, 0);
    done();
}

OPERATION(condition_hook, .setup = set_up_to_interrupt, .warm = watch_for_signals,
    .victim = consume, .unblock = interrupt_and_put, .after = put_what_is_missing,
    .rescue = rescuer_consumes, .when = RESCUE_SLEEPS_LATE, .verify = done_with_inner,
    .no_rescue = true, .proves = "wait_hook_alarm");

/* V notifies itself in its hook, and dies there, with another alarm pending or none. */
static pid_t waiter;

static int notify_here(void *context)
{
    sweep_begins();
    produce();
    (void)use_another_lock(context);
    sweep_ends();
    return 0;
}

static void wait_with_hook(void)
{
    watch_for_signals();
    covey_on_interrupt(notify_here, NULL);
    consume();
}

static void set_up_waiter(void)
{
    set_up_to_interrupt();
    waiter = sweep_fork_asleep(wait_with_hook);
}

static pid_t interrupt_waiter(void)
{
    check_int(kill(waiter, SIGUSR1), ==, 0);
    return waiter;
}

OPERATION(condition_notified_in_hook, .setup = set_up_waiter, .begin = interrupt_waiter,
    .after = put_what_is_missing, .rescue = rescuer_consumes, .when = RESCUE_SLEEPS_FIRST,
    .verify = done_with_inner, .only_kill = true, .proves = "condition_away");

/* Passing on ********************************************************************************* */

enum {
    CONSUMERS = 3,
};

static pid_t consumer[CONSUMERS];

/* All sleep, stopped, and the first one has been notified. */
static void set_up_notified(void)
{
    set_up();
    for (int i = 0; i < CONSUMERS; i++) {
        consumer[i] = sweep_fork_asleep(rescuer_consumes);
        check_int(kill(consumer[i], SIGSTOP), ==, 0);
        check_int(waitpid(consumer[i], NULL, WUNTRACED), ==, consumer[i]);
    }
    (void)take(0);
    put(1);
    leave();
}

static void kill_first(void)
{
    struct cv_descriptor pidfd;

    check_int(cv_pid_open(consumer[0], &pidfd), ==, 0);
    check_int(kill(consumer[0], SIGKILL), ==, 0);
    check_int(cv_pid_wait(pidfd.fd, CV_FOREVER), ==, 0);
    check_int(close(pidfd.fd), ==, 0);
}

static void bury(void)
{
    (void)cv_member_bury_all();
}

static void let_go_on(void)
{
    for (int i = 1; i < CONSUMERS; i++)
        check_int(kill(consumer[i], SIGCONT), ==, 0);
}

static void all_were_consumed(void)
{
    while (__atomic_load_n(&b->got, __ATOMIC_SEQ_CST) < CONSUMERS - 1)
        (void)usleep(100);
    check_int(waitpid(consumer[0], NULL, 0), ==, consumer[0]);
    for (int i = 1; i < CONSUMERS; i++)
        sweep_kill(consumer[i]);
    check_int(b->items, ==, 0);
    check_int(covey_condition_destroy(&b->filled), ==, 0);
    check_int(covey_lock_destroy(&b->lock), ==, 0);
    check_int(covey_free(b), ==, 0);
}

/* The first one's item is not for whom the other notification is. */
OPERATION(condition_pass_on, .setup = set_up_notified, .warm = kill_first, .victim = bury,
    .unblock = put_another, .after = let_go_on, .verify = all_were_consumed,
    .proves = "condition_pass_on condition_complete");

/*
 * V passes on what one was notified of whose burial is not V's alone: when V is killed, another one ends it,
 * and sees whom V has notified, but not whether V has woken him.
 */
static struct cv_waiter *buried;
static uint64_t buried_tag;

static void set_up_burial(void)
{
    set_up();
    consumer[0] = sweep_fork_asleep(rescuer_consumes);
    b->items = 1;
    buried_tag = cv_self.tag;
    buried = cv_waiter_take();
    buried->place = (uintptr_t)&b->filled;
    buried->signal = 2; /* NOTIFIED */
}

static void pass_on(void)
{
    cv_condition_pass_on(buried, buried_tag);
}

static void is_passed_on(void)
{
    while (__atomic_load_n(&b->got, __ATOMIC_SEQ_CST) < 1)
        (void)usleep(100);
    sweep_kill(consumer[0]);
    cv_waiter_drop(buried);
    check_int(covey_condition_destroy(&b->filled), ==, 0);
    check_int(covey_lock_destroy(&b->lock), ==, 0);
    check_int(covey_free(b), ==, 0);
}

OPERATION(condition_pass_on_with, .setup = set_up_burial, .victim = pass_on, .after = pass_on,
    .verify = is_passed_on, .proves = "condition_pass_on_alarm");

/* Records of waiters ************************************************************************** */

enum {
    RECORDS = 64, /* that the family's table has at first: here there are no more */
};

static struct cv_waiter *records[RECORDS];

static void take_record(void)
{
    check_int(covey_open(), ==, 0);
    check(cv_waiter_take() != NULL);
}

/* The last one is a process's that dies before V waits. */
static void set_up_last_record(void)
{
    set_up();
    for (int i = 0; i < RECORDS - 1; i++)
        records[i] = cv_waiter_take();
    cv_arena.family->waiters = RECORDS;
    consumer[0] = sweep_fork(take_record);
}

static bool put_one(void)
{
    for (int i = 0; i < RECORDS - 1; i++)
        cv_waiter_drop(records[i]);
    return put_another();
}

static void done_with_records(void)
{
    (void)take(1);
    check(b->items == 0 || !sweep_victim_finished());
    leave();
    check_int(waitpid(consumer[0], NULL, 0), ==, consumer[0]);
    check_int(covey_condition_destroy(&b->filled), ==, 0);
    check_int(covey_lock_destroy(&b->lock), ==, 0);
    check_int(covey_free(b), ==, 0);
}

/* W waits for the lock while V is stopped with it. */
OPERATION(condition_last_record, .setup = set_up_last_record, .warm = kill_first, .victim = consume,
    .unblock = put_one, .verify = done_with_records, .no_stall = true, .proves = "waiter_reuse");

/* The record of one who died at the condition is taken by V, to wait elsewhere. */
static void set_up_dead_record(void)
{
    set_up();
    inner = covey_calloc(1, sizeof *inner);
    check_int(covey_lock_init(inner), ==, 0);
    check_int(covey_lock_acquire(inner, 0), ==, 0);
    consumer[0] = sweep_fork_asleep(rescuer_consumes);
    for (int i = 0; i < RECORDS - 2; i++)
        records[i] = cv_waiter_take();
    cv_arena.family->waiters = RECORDS;
}

static void take_own_record(void)
{
    cv_waiter_drop(cv_waiter_take());
}

static void kill_and_bury_first(void)
{
    kill_first();
    bury();
}

static void wait_elsewhere(void)
{
    check_int(covey_lock_acquire(inner, 0.01), ==, COVEY_ETIMEDOUT);
}

static void done_with_dead_record(void)
{
    for (int i = 0; i < RECORDS - 2; i++)
        cv_waiter_drop(records[i]);
    check_int(covey_lock_release(inner), ==, 0);
    check_int(covey_lock_destroy(inner), ==, 0);
    check_int(covey_free(inner), ==, 0);
    check_int(waitpid(consumer[0], NULL, 0), ==, consumer[0]);
    done();
}

OPERATION(condition_dead_record, .setup = set_up_dead_record, .warm = kill_and_bury_first,
    .victim = wait_elsewhere, .unblock = put_another, .prepare = take_own_record,
    .rescue = rescuer_consumes, .when = RESCUE_SLEEPS_FIRST, .verify = done_with_dead_record,
    .no_rescue = true, .proves = "condition_record");
