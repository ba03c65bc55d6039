/* SPDX-License-Identifier: MIT */
/* The fork server: V is that, and the rescuer is who uses it. */
#include "sweep.h"

#include "arena/family.h"
#include "os/clock.h"
#include "proc/process.h"
#include "proc/start.h"

enum {
    EXIT_CODE = 7,
};

/* Told: the server's pid. */
enum {
    SERVER,
};

/* In the arena, for the children of the server know nothing else of this world. */
static struct shared {
    uint64_t runs;
    uint64_t may_end;
} * shared;

static covey_process *process;

static int run(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    (void)cv_fetch_add(&s->runs, 1);
    while (!cv_load_acquire(&s->may_end))
        cv_clock_sleep(CV_NS_PER_MS);
    return EXIT_CODE;
}

static void start(void)
{
    check_int(
        covey_process_start(&process, run, COVEY_ARGUMENT(shared), .method = COVEY_FORKSERVER), ==,
        0);
}

/* How it ended is not known if the server died before it could tell. */
static void join(void)
{
    int code = 0;
    int r;

    check_int(covey_process_join(process, COVEY_FOREVER), ==, 0);
    r = covey_process_exit_code(process, &code);
    check(r == 0 || r == COVEY_EDIED);
    if (r == 0)
        check_int(code, ==, EXIT_CODE);
    check_int(covey_process_close(process), ==, 0);
}

static void set_up(void)
{
    shared = covey_calloc(1, sizeof *shared);
    shared->may_end = 1;
}

static void have_server(void)
{
    start();
    join();
    cv_store_seq(&shared->runs, 0);
    sweep_tell(SERVER, (uint64_t)cv_member_pid(cv_process_own()->server));
}

static pid_t find_server(void)
{
    sweep_wait_asleep((pid_t)sweep_told(SERVER));
    return (pid_t)sweep_told(SERVER);
}

/* Then the server goes, too. */
static void be_served(void)
{
    start();
    join();
    sweep_wait_for_death();
    check_int(covey_close(), ==, 0);
}

static void was_run_once(void)
{
    check_int(shared->runs, ==, 1);
    check_int(covey_free(shared), ==, 0);
}

OPERATION(server_request, .setup = set_up, .prepare = have_server, .begin = find_server,
    .is_running = true, .ends_asleep = true, .rescue = be_served, .when = RESCUE_SLEEPS_LATE,
    .verify = was_run_once, .only_kill = true, .is_slow = true, .more_members = -1,
    .proves = "server_death server_withdraw server_retry process_reaper");

/* The child ends when the server sleeps. */
static void have_child(void)
{
    have_server();
    cv_store_seq(&shared->may_end, 0);
    start();
}

static void be_told(void)
{
    join();
    sweep_wait_for_death();
    check_int(covey_close(), ==, 0);
}

static bool let_end(void)
{
    cv_store_seq(&shared->may_end, 1);
    return true;
}

OPERATION(server_reap, .setup = set_up, .prepare = have_child, .begin = find_server,
    .is_running = true, .ends_asleep = true, .rescue = be_told, .unblock = let_end,
    .when = RESCUE_SLEEPS_LATE, .verify = was_run_once, .only_kill = true, .is_slow = true,
    .more_members = -1, .proves = "process_reaper process_lost");
