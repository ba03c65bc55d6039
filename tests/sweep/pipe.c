/* SPDX-License-Identifier: MIT */
/*
 * Pipes: who waits at one end learns that nobody holds the other any more, however V ends; messages are
 * there whole or not at all, and in the end the pipe's memory is free.
 */
#include "items.h"

#include "msg/pipe.h"

#include <string.h>
#include <unistd.h>

enum {
    TOLD_HERE = 0, /* the pipe that V has opened */
    TOLD_THERE,
    GOT,               /* a message of V's */
    ENDS,              /* rescuers that have found the end */
    CLOSED = ENDS + 4, /* V has found it */
    MESSAGE = 24,
};

static covey_pipe *here;
static covey_pipe *there;
static covey_queue *queue;
static unsigned char *message;
static bool has_closed_there; /* W */

static void set_up(void)
{
    check_int(covey_pipe_open(&here, &there, .bytes = 512), ==, 0);
    message = covey_alloc(MESSAGE);
    sweep_fill(message, MESSAGE, OF_VICTIM);
}

static void hold_there(void)
{
    check_int(covey_pipe_hold(there), ==, 0);
}

static void hold_here(void)
{
    check_int(covey_pipe_hold(here), ==, 0);
}

static void send(void)
{
    check_int(covey_pipe_send(there, message, MESSAGE, COVEY_FOREVER), ==, 0);
}

static void close_there(void)
{
    check_int(covey_pipe_close(there), ==, 0);
}

/* Everything up to the end. */
static void receive_all(void)
{
    unsigned char got[MESSAGE];
    size_t size;
    int r;

    while ((r = covey_pipe_receive(here, got, sizeof got, &size, sweep_patience())) == 0) {
        check_int(size, ==, MESSAGE);
        check(sweep_is_filled(got, size, OF_VICTIM));
        sweep_tell(GOT, 1);
    }
    check(r == COVEY_ECLOSED || sweep_is_fine(r));
    if (r == COVEY_ECLOSED)
        sweep_tell(ENDS + sweep_rescuer(), 1);
}

static void receive_and_close(void)
{
    receive_all();
    check_int(covey_pipe_close(here), ==, 0);
}

/* W, which has opened the pipe, holds it, too. */
static void close_both(void)
{
    check_int(covey_pipe_close(here), ==, 0);
    if (!has_closed_there)
        close_there();
    check_int(covey_free(message), ==, 0);
}

static void check_ends(void)
{
    for (unsigned i = 0; i < sweep_rescuers() && !sweep_was_stalled(); i++)
        check(sweep_told(ENDS + i) || !sweep_rescuer_finished());
}

static void done(void)
{
    check_ends();
    close_both();
}

static void check_sent(void)
{
    if (sweep_victim_finished() && sweep_rescuer_finished())
        check_int(sweep_told(GOT), ==, 1);
    done();
}

/* Sending and receiving *************************************************************************** */

OPERATION(pipe_send, .setup = set_up, .warm = hold_there, .victim = send,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close,
    .no_stall = true, .verify = check_sent, .proves = "users_dead wait_lives");

/* If V was not seen to hold an end, somebody must. */
static bool be_there_instead(void)
{
    if (sweep_victim_finished())
        return true;
    (void)covey_pipe_send(there, message, MESSAGE, 0);
    close_there();
    has_closed_there = true;
    return true;
}

OPERATION(pipe_send_first, .setup = set_up, .victim = send, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close, .unblock = be_there_instead,
    .no_stall = true, .verify = check_sent, .proves = "users_dead");

/* V receives; the other one waits for room. */
static void set_up_full(void)
{
    set_up();
    while (covey_pipe_send(here, message, MESSAGE, 0) == 0) {
    }
}

static void receive(void)
{
    check_int(covey_pipe_receive(there, message, MESSAGE, NULL, COVEY_FOREVER), ==, 0);
}

static void send_until_closed(void)
{
    unsigned char sent[MESSAGE] = {0};
    int r;

    while ((r = covey_pipe_send(here, sent, sizeof sent, COVEY_FOREVER)) == 0) {
    }
    check_int(r, ==, COVEY_ECLOSED);
    sweep_tell(ENDS + sweep_rescuer(), 1);
    check_int(covey_pipe_close(here), ==, 0);
}

OPERATION(pipe_receive, .setup = set_up_full, .warm = hold_there, .victim = receive,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .prepare = hold_here, .rescue = send_until_closed,
    .no_stall = true, .verify = done, .proves = "users_dead wait_lives");

/* V is asleep. */
static void set_up_held(void)
{
    set_up();
    hold_here();
}

static void receive_one(void)
{
    unsigned char got[MESSAGE];
    int r = covey_pipe_receive(there, got, sizeof got, NULL, sweep_patience());

    check(sweep_is_fine(r));
    check_int(covey_pipe_close(there), ==, 0);
}

static bool send_one(void)
{
    int r = covey_pipe_send(here, message, MESSAGE, sweep_patience());

    check(sweep_is_fine(r) || r == COVEY_ECLOSED);
    return r == 0;
}

static void send_more(void)
{
    int r = 0;

    if (covey_queue_size(covey_pipe_incoming(there)) == 0)
        r = covey_pipe_send(here, message, MESSAGE, COVEY_FOREVER);
    check(r == 0 || r == COVEY_ECLOSED);
}

OPERATION(pipe_receive_asleep, .setup = set_up_held, .warm = hold_there, .victim = receive,
    .when = RESCUE_SLEEPS_LATE, .prepare = hold_there, .rescue = receive_one, .unblock = send_one,
    .after = send_more, .verify = close_both);

static void poll_there(void)
{
    check_int(covey_pipe_poll(there, COVEY_FOREVER), ==, 1);
}

OPERATION(pipe_poll, .setup = set_up_held, .warm = hold_there, .victim = poll_there,
    .when = RESCUE_SLEEPS_LATE, .prepare = hold_there, .rescue = receive_one, .unblock = send_one,
    .after = send_more, .verify = close_both);

/* Its ends **************************************************************************************** */

OPERATION(pipe_close, .setup = set_up, .warm = hold_there, .victim = close_there,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close,
    .no_stall = true, .verify = done, .proves = "users_dead wait_alarm_all");

static void close_here_late(void)
{
    check_int(covey_pipe_close(here), ==, 0);
}

/* Nobody waits. */
OPERATION(pipe_close_stalled, .setup = set_up, .warm = hold_there, .victim = close_there,
    .prepare = hold_here, .rescue = close_here_late, .verify = close_both,
    .proves = "lock_takeover");

/* V has opened the pipe, and closes both ends; another one holds one of them. */
static void open_pipe(void)
{
    check_int(covey_pipe_open(&here, &there), ==, 0);
    sweep_tell(TOLD_HERE, (uintptr_t)here);
    sweep_tell(TOLD_THERE, (uintptr_t)there);
}

static void close_all(void)
{
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
}

static void receive_opened(void)
{
    here = (covey_pipe *)(uintptr_t)sweep_told(TOLD_HERE); /* NOLINT(performance-no-int-to-ptr) */
    receive_all();
    sweep_wait_for_death();
    check_int(covey_pipe_close(here), ==, 0);
}

OPERATION(pipe_close_all, .setup = NULL, .warm = open_pipe, .victim = close_all,
    .when = RESCUE_SLEEPS_FIRST, .rescue = receive_opened, .no_stall = true, .verify = check_ends,
    .proves = "object_end");

static void use_another(void)
{
    covey_pipe *a;
    covey_pipe *b;

    check_int(covey_pipe_open(&a, &b), ==, 0);
    check_int(covey_pipe_send(a, "x", 1, 0), ==, 0);
    check_int(covey_pipe_close(a), ==, 0);
    check_int(covey_pipe_close(b), ==, 0);
}

static void open_and_send(void)
{
    static const char large[ITEM_BLOCK];

    open_pipe();
    check_int(covey_pipe_send(here, large, sizeof large, 0), ==, 0);
}

OPERATION(pipe_open, .setup = NULL, .victim = open_and_send, .rescue = use_another,
    .proves = "object_end");

OPERATION(pipe_end, .setup = NULL, .warm = open_and_send, .victim = close_all,
    .rescue = use_another, .proves = "object_end");

/* On its way ************************************************************************************** */

static void set_up_way(void)
{
    set_up();
    check_int(covey_queue_open(&queue, .items = 4), ==, 0);
}

static void put_there(void)
{
    check_int(covey_pipe_put(queue, there, COVEY_FOREVER), ==, 0);
}

/* What is in the queue; what was on its way in or out others must find. */
static bool take_out(void)
{
    covey_pipe *end;

    if (covey_pipe_get(queue, &end, 0) == 0) {
        check_int(covey_pipe_close(end), ==, 0);
        has_closed_there = true;
    }
    return true;
}

static void done_with_queue(void)
{
    check_int(covey_queue_free(queue), ==, 0);
    done();
}

OPERATION(pipe_put, .setup = set_up_way, .warm = hold_there, .victim = put_there,
    .when = RESCUE_SLEEPS_FIRST, .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close,
    .unblock = take_out, .no_stall = true, .verify = done_with_queue,
    .proves = "users_bury users_settle queue_incoming");

/* Nobody but those who get it has it. */
static void set_up_got(void)
{
    set_up_way();
    put_there();
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

static void get_there(void)
{
    covey_pipe *end;

    check_int(covey_pipe_get(queue, &end, COVEY_FOREVER), ==, 0);
    check(end == there);
}

static void free_all(void)
{
    check_ends();
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_free(message), ==, 0);
}

OPERATION(pipe_get, .setup = set_up_got, .victim = get_there, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close, .unblock = take_out,
    .no_stall = true, .verify = free_all, .proves = "users_bury users_settle");

static void free_way(void)
{
    check_int(covey_queue_free(queue), ==, 0);
}

static bool free_instead(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    (void)covey_queue_free(queue);
    check_int(covey_stats(&stats), ==, 0); /* V is buried */
    return true;
}

static void free_message(void)
{
    check_ends();
    check_int(covey_free(message), ==, 0);
}

OPERATION(pipe_lost, .setup = set_up_got, .victim = free_way, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close, .unblock = free_instead,
    .no_stall = true, .verify = free_message, .proves = "object_end");

static pid_t started;

static void join_family(void)
{
    check_int(covey_open(), ==, 0);
    sweep_tell(TOLD_HERE, cv_self.mark);
}

/* Somebody is stopped in the pipe's lock; V and who buries it must not wait for him. When he goes on, what they
 * have left is ended. */
static uint64_t *lock_word(void)
{
    const struct cv_pipe *p = (struct cv_pipe *)(void *)(here < there ? here : there);

    return &cv_arena.family->pipe_lock[cv_pipe_lock(p)].word;
}

static void stop_in_lock(void)
{
    cv_store_seq(lock_word(), sweep_told(TOLD_HERE));
}

static void go_on(void)
{
    if ((cv_load_seq(lock_word()) & ~CV_LOCK_SLEEPERS) == sweep_told(TOLD_HERE))
        cv_lock_exit(lock_word());
}

static void bury_victim(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    sweep_wait_for_death();
    check_int(covey_stats(&stats), ==, 0);
    sweep_use_heap();
    go_on();
    check_int(covey_stats(&stats), ==, 0);
}

static void set_up_held_up(void)
{
    set_up_way();
    put_there();
    started = sweep_fork(join_family);
    stop_in_lock();
}

static void end_started(void)
{
    go_on();
    (void)free_instead();
    close_both();
    sweep_kill(started);
}

OPERATION(pipe_lost_held_up, .setup = set_up_held_up, .victim = free_way, .rescue = bury_victim,
    .no_rescue = true, .verify = end_started, .is_slow = true, .proves = "object_end");

/* The same, but he ends it all before V is buried. */
static void close_before_burial(void)
{
    sweep_wait_for_death();
    go_on();
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

OPERATION(pipe_lost_closed, .setup = set_up_held_up, .victim = free_way,
    .rescue = close_before_burial, .no_rescue = true, .verify = end_started, .is_slow = true,
    .proves = "object_end");

/* Others wait, and are told though nobody can have the lock. */
static void set_up_told(void)
{
    set_up_got();
    started = sweep_fork(join_family);
}

static void free_held_up(void)
{
    stop_in_lock();
    free_way();
}

static bool free_after(void)
{
    (void)covey_queue_free(queue);
    return true;
}

static void receive_and_go_on(void)
{
    receive_all();
    go_on();
    close_here_late();
}

static void check_told(void)
{
    check_ends();
    (void)free_instead();
    check_int(covey_free(message), ==, 0);
    sweep_kill(started);
}

OPERATION(pipe_lost_told, .setup = set_up_told, .victim = free_held_up, .when = RESCUE_SLEEPS_FIRST,
    .prepare = hold_here, .rescue = receive_and_go_on, .unblock = free_after, .no_stall = true,
    .verify = check_told, .is_slow = true, .proves = "users_bury");

/* V, the last holder, ends what another one could not. */
static void free_and_stay(void)
{
    join_family();
    stop_in_lock();
    free_way();
    go_on();
    sweep_tell(TOLD_THERE, 1);
    (void)pause();
}

static void set_up_over(void)
{
    set_up_got();
    started = sweep_fork_asleep(free_and_stay);
    while (!sweep_told(TOLD_THERE))
        (void)usleep(100);
}

static void bury_all(void)
{
    sweep_kill(started);
    (void)free_instead();
    check_int(covey_free(message), ==, 0);
}

OPERATION(pipe_close_over, .setup = set_up_over, .warm = hold_here, .victim = close_here_late,
    .rescue = bury_victim, .verify = bury_all, .is_slow = true, .proves = "object_end pipe_keep");

/* V gives an end to a process that it has started, say, and that dies without having used it. */
static void set_up_started(void)
{
    set_up();
    started = sweep_fork(join_family);
}

static void hand_over(void)
{
    cv_pipe_hand_over(cv_member_marked(sweep_told(TOLD_HERE)), &there, sizeof there);
}

static bool kill_started(void)
{
    sweep_kill(started);
    return be_there_instead();
}

OPERATION(pipe_hand_over, .setup = set_up_started, .victim = hand_over, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .prepare = hold_here, .rescue = receive_and_close, .unblock = kill_started,
    .no_stall = true, .verify = done, .proves = "users_dead");

/* V looks whether anybody has an end, while W, whose cell it has seen, gets that again. */
static void set_up_away(void)
{
    set_up_way();
    put_there();
    close_there();
}

static void look_for_holder(void)
{
    unsigned char got[MESSAGE];
    int r = covey_pipe_send(here, message, MESSAGE, 0);

    if (r == 0)
        r = covey_pipe_receive(here, got, sizeof got, NULL, 0);
    sweep_tell(CLOSED, r == COVEY_ECLOSED);
}

static bool get_back(void)
{
    get_there();
    return true;
}

static void check_open(void)
{
    check(!sweep_told(CLOSED));
    check_int(covey_queue_free(queue), ==, 0);
    close_both();
}

OPERATION(pipe_look, .setup = set_up_away, .warm = hold_here, .victim = look_for_holder,
    .unblock = get_back, .verify = check_open);

/* V leaves, and looks for one to have the pipe, while the only one puts its end into a queue and dies. */
static pid_t holder;
static covey_queue *order;

static void put_when_told(void)
{
    int word;

    hold_there();
    check_int(covey_queue_get_value(order, &word, COVEY_FOREVER), ==, 0);
    put_there();
    (void)pause();
}

static void set_up_last(void)
{
    set_up_way();
    check_int(covey_queue_open(&order, .items = 4), ==, 0);
    put_there();
    holder = sweep_fork_asleep(put_when_told);
    check_int(covey_pipe_get(queue, &(covey_pipe *){NULL}, 0), ==, 0);
    close_there();
    check_int(covey_pipe_close(here), ==, 0);
}

static bool put_and_die(void)
{
    check_int(covey_queue_put(order, &(int){1}, sizeof(int), 0), ==, 0);
    while (covey_queue_is_empty(queue))
        (void)usleep(100);
    sweep_kill(holder);
    return true;
}

static void check_pipe(void)
{
    covey_pipe *end;

    check_int(covey_pipe_get(queue, &end, 0), ==, 0);
    check(end == there);
    check_int(covey_pipe_poll(there, COVEY_FOREVER), ==, 1);
    close_there();
    check_int(covey_queue_free(order), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_free(message), ==, 0);
}

OPERATION(pipe_close_last, .setup = set_up_last, .warm = hold_here, .victim = close_here_late,
    .unblock = put_and_die, .verify = check_pipe);
