/* SPDX-License-Identifier: MIT */
/*
 * The fork server: a fresh image of the program, with one thread and nothing of the program's own
 * in it, that forks on request.
 *
 * Each process that uses it has one of its own, started when it is first needed, a daemon of that
 * process. A request is a datagram with the tag of a prepared slot (proc/start.h); the server
 * forks, and writes pid or failure into the child's record. It is the children's parent to the
 * kernel: it reaps them and writes how they ended. The children's parent to covey is who asked:
 * daemons among them watch that process, not the server.
 *
 * Deaths. The requester dies: so does the server. The server dies: a request that was under way is
 * cancelled, or found to be done, and done again with a new server; children that the old one has
 * forked live on, and how they end is known as far as they say it themselves.
 */
#include "proc/start.h"

#include "arena/family.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/mutex.h"
#include "os/pid.h"
#include "sync/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOOK_NS = 50 * CV_NS_PER_MS, /* between looks at a server that has not come to life yet */
    REQUESTS_TRIED = 3,
};

/* The requester's side *********************************************************************** */

void cv_server_forget(void)
{
    struct cv_own *own = cv_process_own();

    if (!own->server)
        return;
    cv_descriptor_close(&own->server_socket);
    own->server = 0;
}

static int start_server(struct cv_own *own)
{
    struct covey_process_options options = {
        .name = "forkserver", .method = COVEY_SPAWN, .daemon = true};
    struct cv_descriptor socket[2]; /* mine, its */
    uint64_t tag = 0;
    covey_process *p;
    int r = cv_descriptor_pair(socket, "the fork server");

    if (r != 0)
        return r;
    r = cv_process_prepare(&options, &p);
    if (r == 0) {
        tag = p->tag; /* once it is detached, another thread may find it dead and take it away */
        r = cv_start_image(p, socket[1].fd);
        if (r != 0)
            cv_process_cancel(p);
        else
            cv_process_detach(p);
    }
    cv_descriptor_close(&socket[1]);
    if (r != 0) {
        cv_descriptor_close(&socket[0]);
        return r;
    }
    own->server_socket = socket[0];
    own->server = tag;
    return 0;
}

static bool is_running(uint64_t server)
{
    covey_process *p = cv_process_record(server);

    return cv_load_acquire(&p->tag) == server && covey_process_is_alive(p) == 1;
}

/* Sends the request, to a new server if need be; *server is who has got it. */
static int request(covey_process *p, uint64_t *server)
{
    struct cv_own *own = cv_process_own();
    int r = 0;

    (void)cv_mutex_lock(&own->server_lock);
    for (int i = 0; i < REQUESTS_TRIED; i++) {
        if (own->server && !(is_running(own->server) && cv_descriptor_is_ours(&own->server_socket)))
            cv_server_forget();
        if (!own->server)
            r = start_server(own);
        if (r != 0)
            break;
        *server = own->server;
        cv_store_release(&p->reaper, own->server);
        if (send(own->server_socket.fd, &p->tag, sizeof p->tag, MSG_NOSIGNAL) ==
            (ssize_t)sizeof p->tag)
            break;
        r = cv_fail_errno("cannot ask the fork server");
        cv_server_forget();
    }
    cv_mutex_unlock(&own->server_lock);
    return r;
}

/* True when the server has answered; false when it has died before. */
static bool wait_for_answer(covey_process *p, uint64_t server)
{
    struct cv_futex_watch started = {&p->started, 0};

    while (!cv_load_acquire(&p->started)) {
        struct cv_wait wait = {.deadline_ns = cv_clock_now() + LOOK_NS};

        if (CV_RECOVERS(server_death) && !is_running(server))
            return cv_load_acquire(&p->started);
        (void)cv_wait_sleep_armed(&wait, p->alarm, cv_bell_arm(p->bell), &started, 1, &server, 1);
        cv_wait_end(&wait);
    }
    return true;
}

/* The server died with the request. Did it fork? If the child has come to life, it did. */
static bool was_started(covey_process *p)
{
    struct cv_member *m = cv_member_of(p->tag);

    for (;;) {
        switch (cv_member_phase(p->tag)) {
        case CV_BORN:
            if (CV_RECOVERS(server_withdraw) && cv_member_withdraw(p->tag))
                return false;
            if (!cv_member_is_dead(p->tag, 0))
                cv_clock_sleep(CV_NS_PER_MS); /* it is just coming to life */
            break;
        default:
            if (!cv_load_acquire(&p->pid))
                cv_store_relaxed(&p->pid, cv_load_acquire(&m->pid));
            return true;
        }
    }
}

static int fail_with_server(uint64_t server)
{
    covey_process *s = cv_process_record(server);
    bool said = cv_load_acquire(&s->tag) == server && cv_load_acquire(&s->failure);

    return cv_fail(COVEY_EDIED, "the fork server died before it had started the process%s%s",
        said ? ": " : "", said ? s->message : "");
}

/* COVEY_EDIED: the server has died, and the process was not started. */
int cv_server_start(covey_process *p)
{
    uint64_t server = 0;
    int r = request(p, &server);

    if (r != 0)
        return r;
    if (!wait_for_answer(p, server) && !was_started(p))
        return fail_with_server(server);
    if (p->failure)
        return cv_fail(p->failure, "%s", p->message);
    cv_process_name(p, (pid_t)p->pid); /* perhaps the child has not come so far */
    cv_store_release(&p->started, 1);
    if (cv_process_is_detached(p))
        return 0;
    (void)cv_pid_open((pid_t)p->pid, &p->pidfd);
    if (cv_process_has_ended(p) || cv_member_is_dead(p->tag, 0))
        cv_descriptor_close(&p->pidfd); /* perhaps another process has that pid now */
    return 0;
}

/* The server's side ************************************************************************** */

struct child {
    pid_t pid;
    uint64_t tag;
};

static struct {
    struct child *list;
    size_t count;
    size_t room;
    int socket;
    int signals;
    sigset_t mask_before;
    struct sigaction interrupt_before;
    struct sigaction child_before;
} server;

static void answer(uint64_t tag, pid_t pid)
{
    covey_process *p = cv_process_record(tag);

    if (cv_load_acquire(&p->tag) != tag) /* the requester is gone, and so is the slot */
        return;
    cv_alarm_set(p->alarm);
    if (pid > 0) {
        cv_member_hand_over(tag, pid);
        cv_store_relaxed(&p->pid, (uint32_t)pid);
    } else {
        (void)snprintf(p->message, sizeof p->message, "%s", covey_error());
        cv_store_relaxed(&p->failure, covey_error_code());
    }
    cv_store_seq(&p->started, 1);
    cv_bell_ring(p->bell, INT_MAX);
    cv_alarm_clear();
}

static void reap_child(size_t i)
{
    struct child c = server.list[i];
    covey_process *p = cv_process_record(c.tag);
    int status = 0;
    int r = cv_pid_look(c.pid, -1, &status);

    if (r == 0)
        return;
    if (r < 0) { /* something that the program runs before main() has taken it */
        cv_process_set_lost(p, c.tag);
    } else {
        (void)cv_process_set_ended(p, c.tag, CV_ENDED, status);
        cv_pid_reap(c.pid);
    }
    server.list[i] = server.list[--server.count];
}

static void reap_children(void)
{
    for (size_t i = server.count; i-- > 0;)
        reap_child(i);
}

/* The tag is the request's: by now the record may be that of a later process in the slot. */
__attribute__((noreturn)) static void be_served_child(uint64_t tag)
{
    (void)close(server.socket);
    (void)close(server.signals);
    (void)sigaction(SIGINT, &server.interrupt_before, NULL);
    (void)sigaction(SIGCHLD, &server.child_before, NULL);
    (void)sigprocmask(SIG_SETMASK, &server.mask_before, NULL);
    cv_start_be_served(tag);
}

static bool make_room(void)
{
    size_t room = server.room ? 2 * server.room : 64;
    struct child *list;

    if (server.count < server.room)
        return true;
    list = realloc(server.list, room * sizeof *list);
    if (!list)
        return false;
    server.list = list;
    server.room = room;
    return true;
}

static void serve(uint64_t tag)
{
    pid_t pid;

    if (!make_room()) {
        (void)cv_fail(COVEY_ENOMEM, "no memory in the fork server");
        answer(tag, -1);
        return;
    }
    pid = fork();
    if (pid == 0)
        be_served_child(tag);
    if (pid < 0)
        (void)cv_fail_errno("the fork server cannot fork");
    else
        server.list[server.count++] = (struct child){pid, tag};
    answer(tag, pid);
}

__attribute__((noreturn)) static void fail(const char *what)
{
    (void)cv_fail_errno("%s", what);
    cv_start_fail(cv_process_record(cv_self.tag));
}

/*
 * Ctrl-C goes to the whole process group, but ending is the requester's business. A program that
 * ignores SIGCHLD passes that on, too; here it would take the children's status away.
 */
static void set_up(int socket)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t child;

    server.socket = socket;
    (void)fcntl(socket, F_SETFD, FD_CLOEXEC);
    (void)sigaction(SIGINT, &ignore, &server.interrupt_before);
    (void)sigaction(SIGCHLD, &plain, &server.child_before);
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child, &server.mask_before);
    server.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server.signals < 0)
        fail("no descriptor for signals");
}

void cv_server_main(int socket)
{
    set_up(socket);
    for (;;) {
        struct pollfd fds[] = {{server.socket, POLLIN, 0}, {server.signals, POLLIN, 0}};
        struct signalfd_siginfo info;
        uint64_t tag;
        ssize_t n;

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            fail("cannot wait for requests");
        while (read(server.signals, &info, sizeof info) > 0) {
        }
        reap_children();
        if (!(fds[0].revents & (POLLIN | POLLHUP)))
            continue;
        n = recv(server.socket, &tag, sizeof tag, 0);
        if (n < 0 && errno != ECONNRESET)
            fail("cannot receive requests");
        if (n <= 0)
            _exit(EXIT_SUCCESS); /* the requester, and all that have its end, are gone */
        serve(tag);
    }
}
