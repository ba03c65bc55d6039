/* SPDX-License-Identifier: MIT */
/*
 * Descriptors in queues.
 *
 * What goes through the queue is a *ticket*: a block of the sender's, then the queue's, then the receiver's,
 * with the name of a socket in it and a random number. Who has put it keeps a copy of the descriptor, with
 * the same number, and listens on that socket in a thread. Who has got it connects and shows the number;
 * the descriptor comes back (SCM_RIGHTS), and the sender closes his copy.
 *
 * A ticket is there as long as its block is; so are the copies, about: whoever frees a ticket that has not
 * brought anybody a descriptor (the queue is freed, the receiver has died or waits no more) connects and
 * says nothing. That is a reason for the sender to look which of his tickets are still there. (Should the
 * connection fail, for want of a descriptor, he does whenever he puts another.)
 *
 *   a kill of the sender     before his item is in the queue: his blocks are swept. After it the receiver
 *                            finds nobody who listens, or that the connection has ended: COVEY_EDIED
 *   of the receiver          his ticket is freed by who buries him; what is under way to him ends with
 *                            his socket
 *   of who frees a ticket    it is marked first, then the sender is told, then it is freed: so who buries
 *                            this one tells him, too
 *
 * Who has no descriptor left for those who ask has a spare one, for one after the other.
 *
 * Nobody else can take part. The sender listens to members of the family only, and to those who do not
 * say anything as long as there is room. The receiver listens to the process only that has put the ticket.
 *
 * All that a sender has is its own, and under a lock; a fork waits for the lock, and the child closes all.
 */
#include "msg/queue.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/passing.h"
#include "os/pid.h"
#include "os/thread.h"

#include <covey/descriptor.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    GUESTS_MAX = 32, /* that have not yet said what they want; of more, the first is sent away */
    AGAIN_NS = CV_NS_PER_MS,
    ACCEPT_NS = 5 * CV_NS_PER_MS,
    SEND_OFF_NS = 100 * CV_NS_PER_MS, /* for a process that is about to end */
    PATIENCE_NS = CV_NS_PER_S,        /* with a sender, whatever the timeout */
};

struct number {
    uint64_t half[2];
};

struct ticket {
    uint64_t signature; /* arena/object.h */
    uint64_t sender;    /* its tag */
    struct number number;
    struct cv_passing_name name;
    uint32_t pid;  /* the sender's */
    uint32_t over; /* 1: nobody gets anything for it; written by who frees it, before he says so */
};

struct request {
    const struct ticket *ticket;
    struct number number;
};

struct answer {
    uint32_t found; /* 0: there is no such copy, or not any more */
};

static bool is_same(struct number a, struct number b)
{
    return a.half[0] == b.half[0] && a.half[1] == b.half[1];
}

/* The sender ********************************************************************************* */

/* A descriptor that nobody has got yet. */
struct copy {
    struct copy *next;
    const struct ticket *ticket;
    struct number number;
    struct cv_descriptor descriptor;
};

struct server {
    struct cv_descriptor listener;
    struct cv_descriptor spare; /* a place for a guest when there is no other */
    struct cv_passing_name name;
    pthread_t thread;
    uint32_t ending;
};

static struct copy *copies;
static struct server *server; /* NULL: none */
static uint64_t nonce;        /* whose they are */

static void drop(struct copy **p)
{
    struct copy *c = *p;

    *p = c->next;
    cv_descriptor_close(&c->descriptor);
    free(c);
}

/* What the process has that this one was forked from. */
static void forget(void)
{
    while (copies)
        drop(&copies);
    if (!server)
        return;
    cv_descriptor_close(&server->spare);
    cv_descriptor_close(&server->listener);
    free(server);
    server = NULL;
}

static void lock(void)
{
    while (cv_exchange(&cv_self.passing, 1))
        (void)sched_yield();
    if (nonce != cv_self.nonce) {
        forget();
        nonce = cv_self.nonce;
    }
}

static void unlock(void)
{
    cv_store_release(&cv_self.passing, 0);
}

static bool is_there(const struct copy *c)
{
    return cv_object_is(c->ticket, CV_DESCRIPTOR) && is_same(c->ticket->number, c->number) &&
           !cv_load_seq(&c->ticket->over);
}

static void drop_those_without_ticket(void)
{
    for (struct copy **p = &copies; *p;) {
        if (is_there(*p))
            p = &(*p)->next;
        else
            drop(p);
    }
}

static void look_at_tickets(void)
{
    lock();
    drop_those_without_ticket();
    unlock();
}

/* Should this fail, the receiver asks again. */
static void hand_over(int guest, const struct request *request)
{
    struct answer answer = {.found = 0};
    struct copy **p = &copies;

    while (*p && !((*p)->ticket == request->ticket && is_same((*p)->number, request->number)))
        p = &(*p)->next;
    answer.found = *p && cv_descriptor_is_ours(&(*p)->descriptor);
    if (cv_passing_send(guest, &answer, sizeof answer, answer.found ? (*p)->descriptor.fd : -1) &&
        *p)
        drop(p);
}

static void serve(int guest)
{
    struct request request;
    int passed;
    ssize_t n = cv_passing_receive(guest, &request, sizeof request, &passed);

    if (passed >= 0)
        (void)close(passed);
    if (n == sizeof request) {
        lock();
        hand_over(guest, &request);
        unlock();
    } else {
        look_at_tickets();
    }
    (void)close(guest);
}

static bool visit_to_find(uint64_t tag, enum cv_phase phase, void *context)
{
    pid_t *pid = context;

    if (phase == CV_ALIVE && cv_member_pid(tag) == *pid)
        *pid = 0;
    return *pid != 0;
}

static bool is_member(pid_t pid)
{
    if (!pid)
        return false;
    cv_member_each(visit_to_find, &pid);
    return pid == 0;
}

struct guests {
    struct pollfd fds[1 + GUESTS_MAX]; /* the first is the listener's */
    unsigned n;
};

static void let_go(struct guests *g, unsigned i)
{
    g->n--;
    memmove(&g->fds[i], &g->fds[i + 1], (g->n - i) * sizeof g->fds[0]);
}

static bool is_full(int error)
{
    return error == EMFILE || error == ENFILE;
}

static int keep_spare(struct server *s)
{
    int fd;

    if (s->spare.fd >= 0)
        return 0;
    fd = fcntl(s->listener.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd >= 0 ? cv_descriptor_take(&s->spare, fd)
                   : cv_fail_errno("no descriptor to spare for those who get one");
}

/* The spare place is for one guest after the other. */
static void make_place(struct server *s, struct guests *g)
{
    look_at_tickets();
    if (s->spare.fd >= 0) {
        cv_descriptor_close(&s->spare);
    } else if (g->n > 1) {
        (void)close(g->fds[1].fd);
        let_go(g, 1);
    }
}

static int accept_guest(struct server *s, struct guests *g)
{
    int guest = cv_passing_accept(s->listener.fd);

    if (guest >= 0 || !is_full(errno))
        return guest;
    make_place(s, g);
    return cv_passing_accept(s->listener.fd);
}

static void let_in(struct server *s, struct guests *g)
{
    int guest = accept_guest(s, g);

    if (guest < 0) {
        if (errno != EAGAIN) /* no descriptor for it */
            cv_clock_sleep(ACCEPT_NS);
        return;
    }
    if (!is_member(cv_passing_peer(guest))) { /* or was one, and had something to say */
        (void)close(guest);
        look_at_tickets();
        return;
    }
    if (g->n == 1 + GUESTS_MAX) {
        (void)close(g->fds[1].fd);
        let_go(g, 1);
    }
    g->fds[g->n++] = (struct pollfd){.fd = guest, .events = POLLIN};
}

static void receive_guests(struct server *s, struct guests *g)
{
    for (unsigned i = g->n; i-- > 1;) {
        if (g->fds[i].revents) {
            serve(g->fds[i].fd);
            let_go(g, i);
        }
    }
    (void)keep_spare(s);
    if (g->fds[0].revents & POLLIN)
        let_in(s, g);
}

static bool goes_on(const struct server *s)
{
    return !cv_load_acquire(&s->ending) && cv_descriptor_is_ours(&s->listener);
}

static void *run(void *argument)
{
    struct server *s = argument;
    struct guests g = {.fds = {{.fd = s->listener.fd, .events = POLLIN}}, .n = 1};

    cv_thread_name();
    while (goes_on(s)) {
        int r = cv_descriptor_poll(g.fds, g.n, CV_FOREVER);

        if (!goes_on(s))
            break;
        if (r > 0)
            receive_guests(s, &g);
        else
            cv_clock_sleep(AGAIN_NS);
    }
    while (g.n > 1)
        (void)close(g.fds[--g.n].fd);
    return NULL;
}

static struct server *start(void)
{
    struct server *s = calloc(1, sizeof *s);
    int fd;

    if (!s) {
        (void)cv_fail(COVEY_ENOMEM, "no memory for a descriptor to be passed");
        return NULL;
    }
    fd = cv_passing_listen(&s->name);
    if (fd < 0) {
        (void)cv_fail_errno("no socket to pass descriptors by");
    } else if (cv_descriptor_take(&s->listener, fd) == 0) {
        s->spare = CV_NO_DESCRIPTOR;
        if (keep_spare(s) == 0 && cv_thread_start(&s->thread, run, s) == 0)
            return s;
        cv_descriptor_close(&s->spare);
        cv_descriptor_close(&s->listener);
    }
    free(s);
    return NULL;
}

/* The thread of one whose socket the program has closed cannot be woken: that ends when it wakes. */
static void stop(struct server *s)
{
    cv_store_release(&s->ending, 1);
    if (!cv_descriptor_is_ours(&s->listener)) {
        (void)pthread_detach(s->thread);
        return;
    }
    (void)shutdown(s->listener.fd, SHUT_RDWR);
    (void)pthread_join(s->thread, NULL);
    cv_descriptor_close(&s->spare);
    cv_descriptor_close(&s->listener);
    free(s);
}

/* This process leaves the family. */
static bool sweep(uint64_t tag)
{
    struct server *s;

    if (tag != cv_self.tag)
        return true;
    lock();
    while (copies)
        drop(&copies);
    s = server;
    server = NULL;
    unlock();
    if (s)
        stop(s);
    return true;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_set_sweep(CV_SWEEP_DESCRIPTORS, sweep);
    cv_wiped_set_forks(lock, unlock, forget);
}

/* 0, or a code; under the lock. */
static int ensure_server(void)
{
    if (server && !cv_descriptor_is_ours(&server->listener)) {
        stop(server);
        server = NULL;
    }
    if (!server)
        server = start();
    return server ? 0 : covey_error_code();
}

static int duplicate(int fd, struct cv_descriptor *d)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

    if (copy >= 0)
        return cv_descriptor_take(d, copy);
    return errno == EBADF ? cv_fail(COVEY_EINVAL, "%d is no open descriptor", fd)
                          : cv_fail_errno("no copy of descriptor %d", fd);
}

static int keep_copy(const struct ticket *t, int fd)
{
    struct copy *c = calloc(1, sizeof *c);
    int r;

    if (!c)
        return cv_fail(COVEY_ENOMEM, "no memory for a descriptor to be passed");
    r = duplicate(fd, &c->descriptor);
    if (r != 0) {
        free(c);
        return r;
    }
    c->ticket = t;
    c->number = t->number;
    c->next = copies;
    copies = c;
    return 0;
}

/* From here on it is one, and there is a copy. */
static int issue(struct ticket *t, int fd)
{
    int r;

    t->sender = cv_self.tag;
    t->pid = (uint32_t)getpid();
    if (getrandom(&t->number, sizeof t->number, 0) != sizeof t->number)
        return cv_fail_errno("no random number");
    lock();
    drop_those_without_ticket();
    r = ensure_server();
    if (r == 0) {
        t->name = server->name;
        r = keep_copy(t, fd);
    }
    if (r == 0)
        cv_object_begin(t, CV_DESCRIPTOR);
    unlock();
    return r;
}

/* Tickets ************************************************************************************ */

static void tell_sender(const struct ticket *t)
{
    int fd;

    if (t->sender == cv_self.tag) {
        look_at_tickets();
    } else if (CV_RECOVERS(descriptor_gone) && !cv_member_is_past(t->sender)) {
        fd = cv_passing_open();
        if (fd >= 0) {
            (void)cv_passing_connect(fd, &t->name);
            (void)close(fd);
        }
    }
}

/* Nobody gets anything for it. */
static void end_ticket(void *block)
{
    struct ticket *t = block;

    cv_store_seq(&t->over, 1);
    tell_sender(t);
    cv_object_end(t);
    (void)cv_heap_free(t);
}

__attribute__((constructor)) static void register_end(void)
{
    cv_object_set_end(CV_DESCRIPTOR, end_ticket);
}

/* The receiver ******************************************************************************* */

enum {
    ASK_AGAIN = 1,
};

/* What it takes is there before the ticket is taken, so that nothing is lost for want of it. */
struct fetching {
    int connection; /* a socket, not yet connected */
    int spare;      /* the place of the descriptor; meanwhile that of the next */
    struct cv_descriptor pidfd;
    const struct ticket *ticket;
    pid_t sender;
    uint64_t deadline_ns;
};

static int get_ready(struct fetching *f, double timeout_s)
{
    int r = cv_clock_deadline(timeout_s, &f->deadline_ns);

    f->pidfd = CV_NO_DESCRIPTOR;
    f->spare = -1;
    f->connection = r == 0 ? cv_passing_open() : -1;
    if (f->connection >= 0)
        f->spare = fcntl(f->connection, F_DUPFD_CLOEXEC, 0);
    return r != 0 || f->spare >= 0 ? r : cv_fail_errno("no room for a descriptor");
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void put_away(struct fetching *f)
{
    close_one(&f->connection);
    close_one(&f->spare);
    cv_descriptor_close(&f->pidfd);
}

static int has_died(const struct fetching *f)
{
    return cv_fail(COVEY_EDIED,
        "process %d has ended, or left the family, before its descriptor was got", (int)f->sender);
}

static int cannot_reach(const struct fetching *f, int error)
{
    errno = error;
    return cv_fail_errno("cannot reach process %d", (int)f->sender);
}

/* When the sender has answered, or has ended: 0; or a code. */
static int wait_for_answer(const struct fetching *f)
{
    struct pollfd fds[] = {
        {.fd = f->connection, .events = POLLIN}, {.fd = f->pidfd.fd, .events = POLLIN}};
    int r;

    do {
        r = cv_descriptor_poll(fds, 2, f->deadline_ns);
        if (r == COVEY_EINTR)
            r = cv_wait_interrupted(NULL);
    } while (r == 0);
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(r, "process %d has not handed its descriptor over", (int)f->sender);
    return r < 0 ? r : 0;
}

static int take_answer(struct fetching *f, int *fd)
{
    struct answer answer = {.found = 0};
    ssize_t n;
    int passed;

    cv_descriptor_close(&f->pidfd);
    n = cv_passing_receive(f->connection, &answer, sizeof answer, &passed);
    if (n == sizeof answer && answer.found && passed >= 0) {
        *fd = passed;
        return 0;
    }
    close_one(&passed);
    if (n == sizeof answer)
        return answer.found
                   ? cv_fail(COVEY_ELIMIT, "no room for a descriptor of process %d", (int)f->sender)
                   : cv_fail(COVEY_ESYS, "process %d has closed its descriptor", (int)f->sender);
    return n < 0 && errno != EAGAIN && errno != ECONNRESET ? cannot_reach(f, errno) : ASK_AGAIN;
}

static int ask(struct fetching *f, int *fd)
{
    const struct request request = {f->ticket, f->ticket->number};
    int r;

    if (cv_passing_peer(f->connection) != f->sender)
        return has_died(f); /* the name is somebody else's */
    if (!cv_passing_send(f->connection, &request, sizeof request, -1))
        return errno == EPIPE || errno == ECONNRESET || errno == EAGAIN ? ASK_AGAIN
                                                                        : cannot_reach(f, errno);
    r = wait_for_answer(f);
    return r != 0 ? r : take_answer(f, fd);
}

static bool has_left(const struct fetching *f)
{
    return !cv_member_takes(cv_tag_short(f->ticket->sender)) ||
           cv_member_is_dead(f->ticket->sender, SEND_OFF_NS);
}

/* Each time anew: the sender has sent this process away because of others, or ends. */
static int fetch_once(struct fetching *f, int *fd)
{
    if (cv_member_is_dead(f->ticket->sender, 0))
        return has_died(f);
    if (f->connection < 0)
        f->connection = cv_passing_open();
    if (f->connection < 0)
        return cannot_reach(f, errno);
    close_one(&f->spare);
    (void)cv_pid_open(f->sender, &f->pidfd); /* without it the connection alone tells of the end */
    if (cv_passing_connect(f->connection, &f->ticket->name))
        return ask(f, fd);
    if (errno == EAGAIN)
        return ASK_AGAIN;
    return errno == ECONNREFUSED && has_left(f) ? has_died(f) : cannot_reach(f, errno);
}

static int fetch(struct fetching *f, int *fd)
{
    uint64_t patience_ns = cv_clock_now() + PATIENCE_NS;
    int r;

    f->sender = (pid_t)f->ticket->pid;
    if (f->deadline_ns < patience_ns)
        f->deadline_ns = patience_ns;
    while ((r = fetch_once(f, fd)) == ASK_AGAIN) {
        close_one(&f->connection);
        cv_descriptor_close(&f->pidfd);
        if (cv_clock_now() >= f->deadline_ns)
            return cv_fail(COVEY_ETIMEDOUT, "process %d has not answered", (int)f->sender);
        cv_clock_sleep(AGAIN_NS);
    }
    return r;
}

/* Public ************************************************************************************* */

static int check(covey_queue *q)
{
    int r = cv_object_check(q, CV_QUEUE);

    return r == 0 && q->has_claims
               ? cv_fail(COVEY_ESTATE, "queue %p is joinable: its items stay its own", (void *)q)
               : r;
}

int covey_descriptor_put(covey_queue *queue, int fd, double timeout_s)
{
    struct ticket *t;
    int r = check(queue);

    if (r != 0)
        return r;
    t = cv_heap_alloc(sizeof *t, CV_GRAIN_BYTES, cv_my_short_tag());
    if (!t)
        return covey_error_code();
    t->signature = 0;
    t->over = 0;
    r = issue(t, fd);
    if (r == 0)
        r = cv_queue_put_block(queue, t, sizeof *t, timeout_s);
    if (r != 0)
        end_ticket(t);
    return r;
}

int covey_descriptor_get(covey_queue *queue, int *fd, double timeout_s)
{
    struct cv_getting g = {.n = 1, .takes_block = true, .kind = CV_DESCRIPTOR};
    struct fetching f;
    int r = check(queue);

    if (r != 0)
        return r;
    if (!fd)
        return cv_fail(COVEY_EINVAL, "fd is NULL: there is no place for the descriptor");
    r = get_ready(&f, timeout_s);
    if (r == 0)
        r = cv_queue_get(queue, &g, timeout_s);
    if (r == 0) {
        f.ticket = g.block;
        r = fetch(&f, fd);
    }
    put_away(&f);
    if (g.block && r == 0) {
        cv_object_end(g.block);
        (void)cv_heap_free(g.block);
    } else if (g.block) {
        end_ticket(g.block);
    }
    return r;
}
