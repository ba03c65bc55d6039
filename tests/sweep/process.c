/* SPDX-License-Identifier: MIT */
/* Starting processes, coming to life as one, waiting for their ends; functions that travel. */
#include "sweep.h"

#include "arena/family.h"
#include "os/clock.h"
#include "proc/function.h"
#include "proc/process.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    EXIT_CODE = 7,
    EXIT_NO_START = 127,
    WAIT_S = 4,
};

/* Told. */
enum {
    HOLDS_CHILDREN, /* 1: the children of a fork wait before they do anything */
    MAY_LIVE,       /* 1: they need not wait any more */
    IS_VICTIM,      /* 1: the next child of a fork is V */
    RUNS,           /* the pid of the child that has come to its function */
    MAY_END,        /* 1: it shall return */
    HANDLE,         /* its covey_process, for all */
};

static covey_process *process;

/* In children *********************************************************************************** */

static void wait_until_told(unsigned i)
{
    while (!sweep_told(i))
        cv_clock_sleep(CV_NS_PER_MS);
}

/* Before covey knows that it is in a child. */
static void hold_child(void)
{
    if (sweep_told(IS_VICTIM))
        sweep_begins();
    else if (sweep_told(HOLDS_CHILDREN))
        wait_until_told(MAY_LIVE);
}

static int live(void *argument)
{
    sweep_tell(RUNS, (uint64_t)getpid());
    wait_until_told(MAY_END);
    return *(int *)argument;
}

/* As a daemon that the kernel does not end. */
static int live_on(void *argument)
{
    (void)argument;
    (void)prctl(PR_SET_PDEATHSIG, 0);
    sweep_tell(RUNS, (uint64_t)getpid());
    while (pause() != 0) {
    }
    return 0;
}

static int play_victim(void *argument)
{
    sweep_ends();
    return live(argument);
}

/* In V ****************************************************************************************** */

static void start_process(covey_function *function, bool daemon)
{
    int code = EXIT_CODE;

    check_int(covey_process_start(
                  &process, function, COVEY_ARGUMENT(code), .method = COVEY_FORK, .daemon = daemon),
        ==, 0);
    sweep_tell(HANDLE, (uintptr_t)process);
}

static void start(void)
{
    start_process(live, false);
}

static void start_daemon(void)
{
    start_process(live, true);
}

static void fork_member(void)
{
    int code = EXIT_CODE;
    pid_t pid = covey_fork();

    check_int(pid, >=, 0);
    if (pid == 0)
        _exit(live(&code));
}

static void join(void)
{
    int code = 0;

    check_int(covey_process_join(process, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(process, &code), ==, 0);
    check_int(code, ==, EXIT_CODE);
}

/* In S ****************************************************************************************** */

static void bury(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
}

static void bury_and_use(void)
{
    bury();
    sweep_use_heap();
}

/* A process of the victim's that has ended, or the victim's slot is used again. */
static void join_victims(void)
{
    covey_process *p = (covey_process *)(uintptr_t)sweep_told(HANDLE); /* NOLINT */
    int r = covey_process_join(p, 2);

    check(r == 0 || r == COVEY_EINVAL);
    bury();
}

/* In W ****************************************************************************************** */

static void hold_children(void)
{
    check_int(pthread_atfork(NULL, NULL, hold_child), ==, 0);
}

static void set_up_start(void)
{
    hold_children();
}

/* Only V's. */
static void begin_to_hold(void)
{
    sweep_tell(HOLDS_CHILDREN, 1);
}

static int status_of(pid_t pid)
{
    double end_s = (double)cv_clock_now() / 1e9 + WAIT_S;
    int status = 0;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        check((double)cv_clock_now() / 1e9 < end_s);
        cv_clock_sleep(CV_NS_PER_MS);
    }
    return status;
}

/* V is dead and buried. A child that it has made comes to life, if only V has finished; or it finds
 * that there is no such slot any more, and ends. */
static void child_lives(void)
{
    pid_t child = sweep_orphan();
    siginfo_t info = {0};

    check(child || !sweep_victim_finished());
    if (!child)
        return;
    sweep_tell(MAY_LIVE, 1);
    while (!sweep_told(RUNS) && info.si_pid == 0) {
        check_int(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT), ==, 0);
        cv_clock_sleep(CV_NS_PER_MS);
    }
    check(sweep_told(RUNS) || !sweep_victim_finished());
    sweep_tell(MAY_END, 1);
    check_int(WEXITSTATUS(status_of(child)), ==, sweep_told(RUNS) ? EXIT_CODE : EXIT_NO_START);
}

OPERATION(process_start, .setup = set_up_start, .warm = begin_to_hold, .victim = start,
    .rescue = bury_and_use, .verify = child_lives, .is_slow = true, .proves = "member_hand_over");

OPERATION(process_fork, .setup = set_up_start, .warm = begin_to_hold, .victim = fork_member,
    .rescue = bury_and_use, .verify = child_lives, .is_slow = true, .proves = "member_hand_over");

/* The child is to have an end of a pipe that V has opened. */
static covey_pipe *first;
static covey_pipe *second;

static void open_and_hold(void)
{
    check_int(covey_pipe_open(&first, &second, .bytes = 512), ==, 0);
    begin_to_hold();
}

static int live_with_end(void *argument)
{
    int code = EXIT_CODE;
    covey_pipe *end = *(covey_pipe **)argument;

    (void)live(&code);
    check_int(covey_pipe_hold(end), ==, 0);
    check_int(covey_pipe_receive(end, &code, sizeof code, NULL, WAIT_S), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(end), ==, 0);
    return EXIT_CODE;
}

static void start_with_end(void)
{
    check_int(
        covey_process_start(&process, live_with_end, COVEY_ARGUMENT(first), .method = COVEY_FORK),
        ==, 0);
}

static void fork_with_ends(void)
{
    pid_t pid = covey_fork();

    check_int(pid, >=, 0);
    if (pid == 0)
        _exit(live_with_end(&second));
}

OPERATION(process_start_pipe, .setup = set_up_start, .warm = open_and_hold,
    .victim = start_with_end, .rescue = bury_and_use, .verify = child_lives, .is_slow = true);

OPERATION(process_fork_pipe, .setup = set_up_start, .warm = open_and_hold, .victim = fork_with_ends,
    .rescue = bury_and_use, .verify = child_lives, .is_slow = true, .proves = "users_heir");

static void child_is_killed(void)
{
    pid_t child = sweep_orphan();

    if (child)
        sweep_kill(child);
}

OPERATION(process_start_in_vain, .setup = set_up_start, .warm = begin_to_hold, .victim = start,
    .rescue = bury_and_use, .verify = child_is_killed, .is_slow = true,
    .proves = "member_stillborn");

static void daemon_ends(void)
{
    pid_t child = sweep_orphan();

    sweep_tell(MAY_LIVE, 1);
    if (child)
        (void)status_of(child);
}

OPERATION(process_start_daemon, .setup = set_up_start, .warm = begin_to_hold,
    .victim = start_daemon, .rescue = bury_and_use, .verify = daemon_ends, .is_slow = true,
    .proves = "process_end_with_parent");

static void have_daemon(void)
{
    start_process(live_on, true);
    wait_until_told(RUNS);
}

OPERATION(process_daemon, .warm = have_daemon, .victim = bury, .rescue = bury_and_use,
    .verify = daemon_ends, .proves = "process_daemons");

/* Coming to life ******************************************************************************** */

static pid_t begin_child(void)
{
    hold_children();
    sweep_tell(IS_VICTIM, 1);
    start_process(play_victim, false);
    return covey_process_pid(process);
}

static void child_was_killed(void)
{
    int code = 0;

    check_int(covey_process_join(process, WAIT_S), ==, 0);
    check_int(covey_process_exit_code(process, &code), ==, 0);
    check_int(code, ==, -SIGKILL);
    check_int(covey_process_close(process), ==, 0);
}

OPERATION(process_come_to_life, .begin = begin_child, .rescue = bury_and_use,
    .verify = child_was_killed, .is_slow = true);

/* Waiting *************************************************************************************** */

static void have_ended_child(void)
{
    sweep_tell(MAY_END, 1);
    siginfo_t info;

    start();
    check_int(waitid(P_PID, (id_t)covey_process_pid(process), &info, WEXITED | WNOWAIT), ==, 0);
}

static void take_orphan(void)
{
    pid_t child = sweep_orphan();

    sweep_tell(MAY_END, 1);
    if (child)
        check_int(WEXITSTATUS(status_of(child)), ==, EXIT_CODE);
}

OPERATION(process_join, .warm = have_ended_child, .victim = join, .rescue = join_victims,
    .verify = take_orphan);

static void have_child(void)
{
    start();
    wait_until_told(RUNS);
}

static bool let_end(void)
{
    sweep_tell(MAY_END, 1);
    return true;
}

OPERATION(process_join_asleep, .warm = have_child, .victim = join, .unblock = let_end,
    .rescue = join_victims, .verify = take_orphan);

static void joined(void)
{
    have_ended_child();
    join();
}

static void close_process(void)
{
    check_int(covey_process_close(process), ==, 0);
}

OPERATION(process_close, .warm = joined, .victim = close_process, .rescue = join_victims,
    .verify = take_orphan);

/* W's child, for which its siblings wait. */
static void wait_for_end(void)
{
    int r = covey_process_join(process, sweep_patience());

    check(sweep_is_fine(r));
}

static void child_has_ended(void)
{
    int code = 0;

    check_int(covey_process_join(process, WAIT_S), ==, 0);
    check_int(covey_process_exit_code(process, &code), ==, 0);
    check_int(code, ==, EXIT_CODE);
    check_int(covey_process_close(process), ==, 0);
}

OPERATION(process_join_others, .setup = have_child, .victim = wait_for_end, .unblock = let_end,
    .rescue = wait_for_end, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = child_has_ended,
    .proves = "wait_lives");

/* Functions ************************************************************************************* */

static void export_function(void)
{
    uint64_t number = 0;

    check_int(cv_function_export((cv_any_function *)(uintptr_t)live, &number), ==, 0);
    sweep_tell(HANDLE, number);
}

static void import_function(void)
{
    cv_any_function *function = NULL;

    export_function();
    check_int(cv_function_import(sweep_told(HANDLE), &function), ==, 0);
    check(function == (cv_any_function *)(uintptr_t)live);
}

OPERATION(function_export, .victim = export_function, .rescue = import_function,
    .verify = import_function, .is_slow = true);
