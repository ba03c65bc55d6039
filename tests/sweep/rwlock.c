/* SPDX-License-Identifier: MIT */
/* The reader/writer lock, and two numbers that are equal whenever nobody writes. */
#include "sweep.h"

#include "sync/rwlock.h"

#include <unistd.h>

static struct guarded {
    covey_rwlock lock;
    uint64_t left;
    uint64_t right;
} * g;

enum {
    RESULT = 0, /* of rescuer i: RESULT + i, with 100 added to what the call returned */
    WROTE = 8   /* V held it for writing when it was killed */
};

static pid_t holder;

static void set_up(void)
{
    g = covey_calloc(1, sizeof *g);
    check_int(covey_rwlock_init(&g->lock), ==, 0);
}

static void expect_got(int r)
{
    check(r == 0 || r == COVEY_EOWNERDEAD);
}

static void read_lock(void)
{
    expect_got(covey_rwlock_acquire_read(&g->lock, COVEY_FOREVER));
}

static void write_lock(void)
{
    expect_got(covey_rwlock_acquire_write(&g->lock, COVEY_FOREVER));
}

static void release(void)
{
    check_int(covey_rwlock_release(&g->lock), ==, 0);
}

static void touch(void)
{
    read_lock();
    release();
}

/* V holds it for writing if no permit is free. */
static void see_writer(void)
{
    uint64_t w = cv_load_acquire(&cv_rwlock_share(&g->lock)->word);

    sweep_tell(WROTE, cv_share_held(w) == CV_SHARE_MAX);
}

static bool got(int r)
{
    sweep_tell(RESULT + sweep_rescuer(), (uint64_t)(r + 100));
    check(r == 0 || r == COVEY_EOWNERDEAD || sweep_is_fine(r));
    return r == 0 || r == COVEY_EOWNERDEAD;
}

static void use_reading(void)
{
    int r = covey_rwlock_acquire_read(&g->lock, sweep_patience());

    if (!got(r))
        return;
    if (r == 0 && !sweep_was_stalled())
        check_int(g->left, ==, g->right);
    release();
}

static void use_writing(void)
{
    int r = covey_rwlock_acquire_write(&g->lock, sweep_patience());

    if (!got(r))
        return;
    g->left = g->right + 1;
    g->right = g->left;
    release();
}

/* The first reads, the second writes. */
static void use(void)
{
    if (sweep_rescuer() == 0)
        use_reading();
    else
        use_writing();
}

static void done(void)
{
    int r = covey_rwlock_acquire_write(&g->lock, 1);

    expect_got(r);
    release();
    check_int(covey_rwlock_acquire_write(&g->lock, 0), ==, 0);
    release();
    check_int(covey_rwlock_acquire_read(&g->lock, 0), ==, 0);
    release();
    check_int(covey_rwlock_release(&g->lock), ==, COVEY_ENOTHELD);
    check_int(covey_rwlock_destroy(&g->lock), ==, 0);
    check_int(covey_free(g), ==, 0);
}

/* Only a writer's death is told. */
static void done_after_holder(void)
{
    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check_int((int)sweep_told(RESULT) - 100, ==, sweep_told(WROTE) ? COVEY_EOWNERDEAD : 0);
    done();
}

/* V is told of to readers, and yet to the first writer, even if a reader that was told has died. */
static void done_after_writer(void)
{
    if (sweep_told(WROTE)) {
        check_int(covey_rwlock_acquire_write(&g->lock, 1), ==, COVEY_EOWNERDEAD);
        release();
    }
    done_after_holder();
}

OPERATION(rwlock_read, .setup = set_up, .victim = read_lock, .look = see_writer,
    .rescue = use_writing, .verify = done_after_holder, .proves = "share_reap");

OPERATION(rwlock_write, .setup = set_up, .victim = write_lock, .look = see_writer,
    .rescue = use_reading, .verify = done_after_writer, .proves = "share_reap rwlock_told");

OPERATION(rwlock_release_read, .setup = set_up, .warm = read_lock, .victim = release,
    .look = see_writer, .rescue = use_writing, .verify = done_after_holder);

OPERATION(rwlock_release_write, .setup = set_up, .warm = write_lock, .victim = release,
    .look = see_writer, .rescue = use_reading, .verify = done_after_writer);

/* Waiting ************************************************************************************ */

static void set_up_written(void)
{
    set_up();
    write_lock();
}

static void set_up_read(void)
{
    set_up();
    read_lock();
}

static bool let_go(void)
{
    release();
    return true;
}

OPERATION(rwlock_read_asleep, .setup = set_up_written, .victim = read_lock, .unblock = let_go,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done);

/* V has closed the gate: behind it the others sleep, until it opens or V is dead. */
OPERATION(rwlock_write_asleep, .setup = set_up_read, .victim = write_lock, .unblock = let_go,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .proves = "rwlock_gate");

OPERATION(rwlock_release_awaited, .setup = set_up, .warm = write_lock, .victim = release,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_lives");

OPERATION(rwlock_read_awaited, .setup = set_up, .warm = read_lock, .victim = release,
    .rescue = use_writing, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_lives");

/*
 * W comes in beside the one who sleeps, after V has let go and before it has rung, and stays. That one must
 * get in, too, while V lives: he has slept for V alone.
 */
static bool is_beside;

static bool read_in_between(void)
{
    int r = covey_rwlock_acquire_read(&g->lock, 0);

    is_beside = r == 0 || r == COVEY_EOWNERDEAD;
    return is_beside;
}

static void wait_for_rescuer(void)
{
    while (sweep_was_stalled() && sweep_victim_finished() && is_beside && !sweep_told(RESULT))
        (void)usleep(1000);
}

static void done_in_between(void)
{
    if (is_beside)
        release();
    done();
}

OPERATION(rwlock_release_in_between, .setup = set_up, .warm = write_lock, .victim = release,
    .unblock = read_in_between, .look = wait_for_rescuer, .rescue = use_reading,
    .when = RESCUE_SLEEPS_FIRST, .verify = done_in_between);

/*
 * Behind V, the last reader, comes a writer that has looked at the gate before the one who sleeps has closed
 * it; and dies. The sleeper must be told to watch it, by V: he has slept for V alone.
 */
static void take_all_late(void)
{
    uint64_t seen;

    check_int(covey_open(), ==, 0);
    (void)cv_share_take(
        cv_rwlock_share(&g->lock), CV_SHARE_MAX, CV_SHARE_MAX, &g->lock.died_, &seen);
}

static bool write_late_and_die(void)
{
    is_beside = sweep_is_stalled();
    if (is_beside)
        sweep_kill(sweep_fork(take_all_late));
    return is_beside;
}

static void write_to_the_end(void)
{
    int r = covey_rwlock_acquire_write(&g->lock, COVEY_FOREVER);

    check(got(r));
    release();
}

OPERATION(rwlock_read_late_writer, .setup = set_up, .warm = read_lock, .victim = release,
    .unblock = write_late_and_die, .look = wait_for_rescuer, .rescue = write_to_the_end,
    .when = RESCUE_SLEEPS_FIRST, .verify = done, .no_rescue = true, .proves = "rwlock_late");

static void set_up_writer(void)
{
    set_up();
    holder = sweep_fork(write_lock);
}

static bool kill_holder(void)
{
    sweep_kill(holder);
    return true;
}

OPERATION(rwlock_writer_dies, .setup = set_up_writer, .victim = touch, .unblock = kill_holder,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .proves = "wait_lives");

static void set_up_dead_writer(void)
{
    set_up();
    sweep_kill(sweep_fork(write_lock));
}

/* Whoever comes first is told; a V that was killed may have been. */
static void done_after_death(void)
{
    if (sweep_rescuer_finished() && !sweep_was_stalled() && !sweep_victim_finished())
        check(sweep_told(WROTE) || sweep_told(RESULT) != 0);
    done();
}

OPERATION(rwlock_takeover, .setup = set_up_dead_writer, .victim = write_lock, .look = see_writer,
    .rescue = use_writing, .verify = done_after_death, .proves = "share_reap");

/* The gate ************************************************************************************ */

/* A writer waits at the gate for W, which reads. */
static void write_once(void)
{
    write_lock();
    release();
}

static void set_up_gate(void)
{
    set_up_read();
    holder = sweep_fork_asleep(write_once);
}

/* W goes on reading to the end. */
static void done_after_reading(void)
{
    release();
    done();
}

static bool kill_holder_and_let_go(void)
{
    sweep_kill(holder);
    return let_go();
}

OPERATION(rwlock_gate_dies, .setup = set_up_gate, .victim = write_lock,
    .unblock = kill_holder_and_let_go, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .proves = "wait_lives rwlock_gate");

OPERATION(rwlock_read_gate_dies, .setup = set_up_gate, .victim = read_lock, .unblock = kill_holder,
    .rescue = use_reading, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done_after_reading,
    .proves = "wait_lives rwlock_gate");

/*
 * V comes in as a reader while the gate is being closed: the writer, who sleeps for W already, must watch
 * V, too.
 */
static void write_patiently(void)
{
    expect_got(covey_rwlock_acquire_write(&g->lock, COVEY_FOREVER));
    release();
}

static bool let_go_later(void)
{
    return !sweep_is_stalled() && let_go();
}

OPERATION(rwlock_read_beside_gate, .setup = set_up_read, .warm = touch, .victim = read_lock,
    .unblock = let_go_later, .rescue = write_patiently, .verify = done, .proves = "rwlock_tell");

/* The same by the longer way, with a cell that is not its own yet. */
OPERATION(rwlock_read_first_beside_gate, .setup = set_up_read, .victim = read_lock,
    .unblock = let_go_later, .rescue = write_patiently, .verify = done, .proves = "rwlock_tell");

/* Giving up *********************************************************************************** */

static void write_or_give_up(void)
{
    int r = covey_rwlock_acquire_write(&g->lock, 0.1);

    check(r == 0 || r == COVEY_EOWNERDEAD || r == COVEY_ETIMEDOUT);
    if (r != COVEY_ETIMEDOUT)
        release();
}

/* V closes the gate, and opens it again: the readers behind it come in beside W, who goes on reading. */
OPERATION(rwlock_write_give_up, .setup = set_up_read, .victim = write_or_give_up,
    .rescue = use_reading, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done_after_reading,
    .proves = "rwlock_gate", .is_slow = true);

static void read_or_give_up(void)
{
    int r = covey_rwlock_acquire_read(&g->lock, 0.1);

    check(r == 0 || r == COVEY_EOWNERDEAD || r == COVEY_ETIMEDOUT);
    if (r != COVEY_ETIMEDOUT)
        release();
}

static void release_if_written(void)
{
    if (cv_share_held(cv_load_seq(&cv_rwlock_share(&g->lock)->word)) == CV_SHARE_MAX)
        (void)covey_rwlock_release(&g->lock);
}

OPERATION(rwlock_read_give_up, .setup = set_up_written, .victim = read_or_give_up,
    .after = release_if_written, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .is_slow = true);

/* Cells elsewhere **************************************************************************** */

static void set_up_crowded(void)
{
    set_up();
    sweep_gather(touch);
}

static void done_with_crowd(void)
{
    sweep_disperse();
    done();
}

OPERATION(rwlock_extend_by_reader, .setup = set_up_crowded, .victim = read_lock,
    .rescue = use_writing, .verify = done_with_crowd, .proves = "cells_settle cells_dangling");

OPERATION(rwlock_extend_by_writer, .setup = set_up_crowded, .victim = write_lock,
    .rescue = use_reading, .verify = done_with_crowd, .proves = "cells_settle cells_dangling");

static void set_up_extended(void)
{
    set_up_crowded();
    touch();
}

static void destroy(void)
{
    check_int(covey_rwlock_destroy(&g->lock), ==, 0);
}

static void done_after_destroying(void)
{
    int r = covey_rwlock_destroy(&g->lock);

    sweep_disperse();
    check(r == 0 || r == COVEY_EINVAL);
    check(r == COVEY_EINVAL || !sweep_victim_finished());
    check_int(covey_free(g), ==, 0);
}

/* Nobody may use what is being destroyed: so V is not stopped. */
OPERATION(rwlock_destroy, .setup = set_up_extended, .victim = destroy,
    .verify = done_after_destroying, .no_stall = true);
