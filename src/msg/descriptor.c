/* SPDX-License-Identifier: MIT */
/*
 * Descriptors in queues.
 *
 * What goes through the queue is a *ticket*: a block of the sender's, then the queue's, then the receiver's,
 * with the name of a socket in it and a random number. Who has put it keeps a copy of the descriptor, with
 * the same number, and can be asked by that socket, at which a thread waits. Who has got it asks with the
 * number; the descriptor comes back (SCM_RIGHTS), and the sender closes his copy.
 *
 * A ticket is there as long as its block is; so are the copies, about: whoever frees a ticket that has not
 * brought anybody a descriptor (the queue is freed, the receiver has died or waits no more) sends an empty
 * message. That is a reason for the sender to look which of his tickets are still there. (Should it not get
 * there, for want of a descriptor, he does whenever he puts another.)
 *
 * A ticket whose owner is dead counts no more, though nobody has buried him yet. So that the sender finds that out, the
 * receiver tells him, before he takes a ticket, that he is about to: from then on, until he has asked, the sender looks
 * ten times a second whether he lives.
 *
 *   a kill of the sender     before his item is in the queue: his blocks are swept. After it the receiver
 *                            finds nobody to ask, or that nobody can answer any more: COVEY_EDIED
 *   of the receiver          his ticket is freed by who buries him, and the sender sees that he is dead; what is
 *                            under way to him ends with his socket. If he was just taking the ticket out of
 *                            the queue, the sender mends that
 *   of who frees a ticket    it is marked first, then the sender is told, then it is freed: so who buries
 *                            this one tells him, too
 *
 * With a question comes the socket for its answer. If there is no room for that at the sender's, the question
 * waits; so that there is some, he keeps a spare descriptor, which he closes for it. If there is
 * none for the answer at the receiver's, the answer waits.
 *
 * Nobody else can take part. The sender answers members of the family only, and the receiver believes only the
 * process that has put the ticket.
 *
 * All that a sender has is its own, and under a lock, as are the sockets of a receiver; a fork waits for the lock,
 * and the child closes all.
 */
#include "msg/queue.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/passing.h"
#include "os/thread.h"

#include <covey/descriptor.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    AGAIN_NS = CV_NS_PER_MS,
    SEND_OFF_NS = 100 * CV_NS_PER_MS, /* for a process that is about to end */
    PATIENCE_NS = CV_NS_PER_S,        /* with a sender, whatever the timeout */
    LOOK_NS = 100 * CV_NS_PER_MS,     /* whether it lives still */
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
    uint64_t taker; /* the mark of who asks, or is about to */
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
    covey_queue *queue; /* in which the ticket was put */
    struct number number;
    struct cv_descriptor descriptor;
    uint64_t taker; /* the mark of who has said last that it takes the ticket; 0: nobody */
    bool is_being_closed;
};

struct server {
    struct cv_descriptor listener;
    struct cv_descriptor spare; /* the place of a socket for an answer when there is no other */
    struct cv_passing_name name;
    pthread_t thread;
    uint32_t ending;
};

/* What it takes to get one is there before the ticket is taken, so that nothing is lost for want of it. */
struct fetching {
    struct fetching *next;
    int socket;  /* to ask by */
    int pair[2]; /* for the answer; the place of the second, which goes away, is the descriptor's */
    const struct ticket *ticket;
    pid_t sender;
    uint64_t deadline_ns;
};

static struct fetching *fetchings;
static struct copy *copies;
static struct copy *dropped;  /* those that are still to be closed */
static struct server *server; /* NULL: none */

static void drop(struct copy **p)
{
    struct copy *c = *p;

    *p = c->next;
    c->next = dropped;
    dropped = c;
}

/* Its number may be the arena's by now: see close_dropped(). */
static void close_copy(struct copy **p)
{
    struct cv_descriptor memory = cv_arena.memory.file;
    struct copy *c = *p;

    *p = c->next;
    memory.fd = c->descriptor.fd;
    cv_descriptor_close(
        c->is_being_closed && cv_descriptor_is_ours(&memory) ? &memory : &c->descriptor);
    free(c);
}

static void close_in_child(struct copy **list)
{
    while (*list)
        close_copy(list);
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void close_all(struct fetching *f)
{
    close_one(&f->socket);
    close_one(&f->pair[0]);
    close_one(&f->pair[1]);
}

/* What the process has that this one was forked from. */
static void forget(void)
{
    for (; fetchings; fetchings = fetchings->next)
        close_all(fetchings);
    close_in_child(&copies);
    close_in_child(&dropped);
    if (!server)
        return;
    cv_descriptor_close(&server->spare);
    cv_descriptor_close(&server->listener);
    free(server);
    server = NULL;
}

static struct cv_private own = {.lock = &cv_self.passing, .forget = forget};

static void lock(void)
{
    cv_private_lock(&own);
}

static void unlock(void)
{
    cv_private_unlock(&own);
}

static struct copy *next_dropped(void)
{
    struct copy *c = dropped;

    while (c && c->is_being_closed)
        c = c->next;
    return c;
}

/* If a signal handler has forked, this is the child, and it is gone already. */
static void close_and_forget(const struct copy *c)
{
    struct copy **p = &dropped;

    while (*p && *p != c)
        p = &(*p)->next;
    if (*p)
        close_copy(p);
}

/* To close a socket may take long (SO_LINGER): so without the lock. Its number is covey's own until that is done, for
 * there may be a fork meanwhile, whose child must not take for the copy what the program has opened. */
static void close_dropped(void)
{
    struct copy *c;

    lock();
    while ((c = next_dropped())) {
        struct cv_descriptor d = c->descriptor;

        c->is_being_closed = true;
        unlock();
        cv_descriptor_replace(&d, &cv_arena.memory.file);
        lock();
        close_and_forget(c);
    }
    unlock();
}

static void *close_slowly(void *unused)
{
    (void)unused;
    cv_thread_name();
    close_dropped();
    return NULL;
}

static bool lingers(const struct copy *c)
{
    struct linger l = {.l_onoff = 0};

    return getsockopt(c->descriptor.fd, SOL_SOCKET, SO_LINGER, &l, &(socklen_t){sizeof l}) == 0 &&
           l.l_onoff && l.l_linger > 0;
}

static bool any_dropped(bool (*is)(const struct copy *c))
{
    bool any = false;

    lock();
    for (const struct copy *c = dropped; c; c = c->next)
        any |= is(c);
    unlock();
    return any;
}

static bool is_to_be_closed_slowly(const struct copy *c)
{
    return !c->is_being_closed && lingers(c);
}

static bool is_being_closed(const struct copy *c)
{
    return c->is_being_closed;
}

/* For who has others waiting for him: what may take long is for another thread. */
static void close_beside(void)
{
    pthread_t thread;

    if (any_dropped(is_to_be_closed_slowly) && cv_thread_start(&thread, close_slowly, NULL) == 0)
        (void)pthread_detach(thread);
    else
        close_dropped();
}

/* The process whose ticket it is; 0: it is the queue's. */
static uint64_t owner_of(const struct copy *c)
{
    return cv_member_of_short(cv_heap_owner(c->ticket, NULL));
}

static bool is_dead(uint64_t tag)
{
    return tag && CV_RECOVERS(descriptor_taken) && cv_member_is_dead(tag, 0);
}

static bool is_there(const struct copy *c)
{
    return cv_object_is(c->ticket, CV_DESCRIPTOR) && is_same(c->ticket->number, c->number) &&
           !cv_load_seq(&c->ticket->over) && !is_dead(owner_of(c));
}

/* Has somebody the ticket, or is about to, who must ask for the descriptor yet? */
static bool is_taken(const struct copy *c)
{
    uint64_t owner = owner_of(c);

    return (owner && owner != cv_self.tag) || c->taker;
}

/* Is one of the others taken? */
static bool drop_those_without_ticket(void)
{
    bool any = false;

    for (struct copy **p = &copies; *p;) {
        if (is_there(*p)) {
            any |= is_taken(*p);
            p = &(*p)->next;
        } else {
            drop(p);
        }
    }
    return any;
}

/* Where one has died who has not taken the ticket, or not quite. */
static covey_queue *next_to_settle(uint64_t *mark)
{
    for (struct copy *c = copies; c; c = c->next) {
        uint64_t owner = cv_member_marked(c->taker);

        if (c->taker && (!owner || cv_member_is_dead(owner, 0))) {
            *mark = c->taker;
            c->taker = 0;
            return c->queue;
        }
    }
    return NULL;
}

/* Without the lock, for tickets may end. */
static void settle(void)
{
    uint64_t mark;
    covey_queue *q;

    do {
        lock();
        q = next_to_settle(&mark);
        unlock();
        if (q && CV_RECOVERS(descriptor_settled) && cv_object_is(q, CV_QUEUE))
            cv_queue_mend_get(q, mark);
    } while (q);
}

static void look_at_tickets(void)
{
    lock();
    (void)drop_those_without_ticket();
    unlock();
    close_beside();
}

static struct copy **find(const struct request *request)
{
    struct copy **p = &copies;

    while (*p && !((*p)->ticket == request->ticket && is_same((*p)->number, request->number)))
        p = &(*p)->next;
    return p;
}

/* He may have died meanwhile, and be buried. */
static void note_taker(const struct request *request)
{
    struct copy **p = find(request);

    if (*p)
        (*p)->taker = request->taker;
}

/* Should this fail, the receiver asks again. */
static void hand_over(int socket, const struct request *request)
{
    struct answer answer = {.found = 0};
    struct copy **p = find(request);

    answer.found = *p && cv_descriptor_is_ours(&(*p)->descriptor);
    if (cv_passing_answer(
            socket, &answer, sizeof answer, answer.found ? (*p)->descriptor.fd : -1) &&
        *p)
        drop(p);
}

struct search {
    pid_t pid;
    uint64_t tag;
};

static bool visit_to_find(uint64_t tag, enum cv_phase phase, void *context)
{
    struct search *s = context;

    if (phase == CV_ALIVE && cv_member_pid(tag) == s->pid)
        s->tag = tag;
    return !s->tag;
}

/* 0: it is none. */
static uint64_t member_of(pid_t pid)
{
    struct search s = {.pid = pid};

    if (pid)
        cv_member_each(visit_to_find, &s);
    return s.tag;
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

/* What comes with a question, if need be in the spare's place. */
static void look(struct server *s, struct request *request, struct cv_passed *passed)
{
    ssize_t n = cv_passing_look(s->listener.fd, request, sizeof *request, passed);

    if (n < 0 || !passed->no_room || s->spare.fd < 0)
        return;
    (void)drop_those_without_ticket();
    cv_descriptor_close(&s->spare);
    (void)cv_passing_look(s->listener.fd, request, sizeof *request, passed);
}

enum served {
    SERVED,
    SERVED_LATER,    /* there is no room */
    SERVED_STRANGER, /* his message is still to be taken, without the lock */
};

/* One who asks; or who will, without a socket for the answer. A message that is none says that tickets are gone; or it
 * is a stranger's. */
static enum served serve(struct server *s)
{
    struct request request;
    struct cv_passed passed;
    ssize_t n = cv_passing_look_first(s->listener.fd, &request, sizeof request, &passed);
    bool asks = n == sizeof request;

    if (n < 0)
        return SERVED;
    if (passed.no_room) {
        if (!asks || !member_of(passed.sender))
            return SERVED_STRANGER;
        look(s, &request, &passed);
        if (passed.fd < 0)
            return SERVED_LATER;
    }
    cv_passing_take(s->listener.fd);
    if (passed.fd >= 0)
        hand_over(passed.fd, &request);
    else if (asks)
        note_taker(&request);
    else
        (void)drop_those_without_ticket();
    if (passed.fd >= 0)
        (void)close(passed.fd);
    (void)keep_spare(s);
    return SERVED;
}

static bool goes_on(const struct server *s)
{
    return !cv_load_acquire(&s->ending) && cv_descriptor_is_ours(&s->listener);
}

/* After a message, and then as long as a ticket is taken: nothing wakes the thread when one dies who has not asked
 * yet, for it cannot sleep on a life and on a socket at once. */
static uint64_t next_look(uint64_t look_ns)
{
    uint64_t now = cv_clock_now();

    if (look_ns != CV_FOREVER && now < look_ns)
        return look_ns;
    return look_ns == CV_FOREVER || drop_those_without_ticket() ? now + LOOK_NS : CV_FOREVER;
}

static void *run(void *argument)
{
    struct server *s = argument;
    uint64_t look_ns = CV_FOREVER;

    cv_thread_name();
    while (goes_on(s)) {
        enum served served = SERVED;
        uint64_t last_ns = look_ns;
        struct pollfd p = {.fd = s->listener.fd, .events = POLLIN};
        int r = cv_descriptor_poll(&p, 1, look_ns);

        if (!goes_on(s))
            break;
        lock(); /* so that no copy gets the spare's place */
        if (r != COVEY_ETIMEDOUT)
            served = r > 0 ? serve(s) : SERVED_LATER;
        look_ns = next_look(last_ns);
        unlock();
        if (served == SERVED_STRANGER)
            cv_passing_take(s->listener.fd);
        close_beside();
        if (look_ns != last_ns)
            settle();
        if (served == SERVED_LATER)
            cv_clock_sleep(AGAIN_NS);
    }
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
    close_dropped();
    while (any_dropped(is_being_closed))
        cv_clock_sleep(AGAIN_NS);
    if (s)
        stop(s);
    return true;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_set_sweep(CV_SWEEP_DESCRIPTORS, sweep);
    cv_private_add(&own);
}

/* With a spare, too: 0, or a code; under the lock. */
static int ensure_server(void)
{
    if (server && !cv_descriptor_is_ours(&server->listener)) {
        stop(server);
        server = NULL;
    }
    if (!server)
        server = start();
    return server ? keep_spare(server) : covey_error_code();
}

static int duplicate(int fd, struct cv_descriptor *d)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

    if (copy >= 0)
        return cv_descriptor_take(d, copy);
    return errno == EBADF ? cv_fail(COVEY_EINVAL, "%d is no open descriptor", fd)
                          : cv_fail_errno("no copy of descriptor %d", fd);
}

static int keep_copy(const struct ticket *t, covey_queue *queue, int fd)
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
    c->queue = queue;
    c->number = t->number;
    c->next = copies;
    copies = c;
    return 0;
}

/* From here on it is one, and there is a copy. */
static int issue(struct ticket *t, covey_queue *queue, int fd)
{
    int r;

    t->sender = cv_self.tag;
    t->pid = (uint32_t)getpid();
    if (getrandom(&t->number, sizeof t->number, 0) != sizeof t->number)
        return cv_fail_errno("no random number");
    look_at_tickets();
    lock();
    r = ensure_server();
    if (r == 0) {
        t->name = server->name;
        r = keep_copy(t, queue, fd);
    }
    if (r == 0)
        cv_object_begin(t, CV_DESCRIPTOR);
    unlock();
    return r;
}

/* Tickets ************************************************************************************ */

/* That may be this process, too: its thread closes the copy then, for that may take long, and this may be in
 * a queue's lock. */
static void tell_sender(const struct ticket *t)
{
    int fd;

    if (t->sender == cv_self.tag) {
        lock();
        (void)drop_those_without_ticket();
        unlock();
    }
    if (!CV_RECOVERS(descriptor_gone) || cv_member_is_past(t->sender))
        return;
    fd = cv_passing_open();
    if (fd >= 0) {
        (void)cv_passing_ask(fd, &t->name, NULL, 0, -1);
        (void)close(fd);
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

static _Thread_local int taking_by CV_TLS_FAST; /* the socket of who is just taking a ticket */

/* Under the lock, as the next two. */
static bool open_pair(struct fetching *f)
{
    close_one(&f->pair[0]);
    return cv_passing_pair(f->pair);
}

static int get_ready(struct fetching *f)
{
    int r = 0;

    lock();
    f->next = fetchings;
    fetchings = f;
    f->socket = cv_passing_open();
    if (f->socket < 0 || !open_pair(f))
        r = cv_fail_errno("no room for a descriptor");
    unlock();
    return r;
}

/* Before this process takes the ticket: so the sender knows of one who dies with it. (Should this fail, he finds it out
 * when he looks for another reason.) */
static int announce(void *block)
{
    const struct ticket *t = block;
    const struct request request = {t, t->number, cv_self.mark};

    if (t->sender != cv_self.tag)
        (void)cv_passing_ask(taking_by, &t->name, &request, sizeof request, -1);
    return 0;
}

static int take_ticket(covey_queue *q, struct cv_getting *g, const struct fetching *f)
{
    int before = taking_by; /* this may be a signal handler */
    int r;

    taking_by = f->socket;
    r = cv_queue_get(q, g, 0);
    taking_by = before;
    return r;
}

static void put_away(struct fetching *f)
{
    struct fetching **p = &fetchings;

    lock();
    while (*p && *p != f)
        p = &(*p)->next;
    if (*p)
        *p = f->next;
    close_all(f);
    unlock();
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

static int is_late(const struct fetching *f)
{
    return cv_fail(
        COVEY_ETIMEDOUT, "process %d has not handed its descriptor over", (int)f->sender);
}

/* When the sender has answered, or cannot any more: 0; or a code. The end of its socket tells of its death, but for
 * one that has left a copy in a process that it has made behind the C library's back. */
static int wait_for_answer(const struct fetching *f)
{
    struct pollfd p = {.fd = f->pair[0], .events = POLLIN};
    bool is_dead = false;
    int r;

    do {
        uint64_t look_ns = is_dead ? 0 : cv_clock_now() + LOOK_NS;

        r = cv_descriptor_poll(&p, 1, look_ns < f->deadline_ns ? look_ns : f->deadline_ns);
        if (r == COVEY_EINTR) {
            r = cv_wait_interrupted(NULL);
        } else if (r == COVEY_ETIMEDOUT && is_dead) {
            return has_died(f);
        } else if (r == COVEY_ETIMEDOUT && look_ns < f->deadline_ns) {
            is_dead = cv_member_is_dead(f->ticket->sender, 0);
            r = 0;
        }
    } while (r == 0);
    return r == COVEY_ETIMEDOUT ? is_late(f) : r < 0 ? r : 0;
}

static int take_answer(const struct fetching *f, int *fd)
{
    struct answer answer = {.found = 0};
    struct cv_passed passed;
    ssize_t n;

    while ((n = cv_passing_look(f->pair[0], &answer, sizeof answer, &passed)) < 0
               ? errno != ECONNRESET
               : passed.no_room) {
        if (cv_clock_now() >= f->deadline_ns)
            return n < 0 ? cannot_reach(f, errno)
                         : cv_fail(COVEY_ELIMIT, "no room for a descriptor of process %d",
                               (int)f->sender);
        cv_clock_sleep(AGAIN_NS);
    }
    if (n == sizeof answer && answer.found && passed.fd >= 0 && passed.sender == f->sender) {
        *fd = passed.fd;
        return 0;
    }
    close_one(&passed.fd);
    if (n != sizeof answer)
        return ASK_AGAIN;
    return passed.sender == f->sender
               ? cv_fail(COVEY_ESYS, "process %d has closed its descriptor", (int)f->sender)
               : has_died(f); /* the name is somebody else's */
}

static bool has_left(const struct fetching *f)
{
    return !cv_member_takes(cv_tag_short(f->ticket->sender)) ||
           cv_member_is_dead(f->ticket->sender, SEND_OFF_NS);
}

static bool may_pass(int error)
{
    return error == EAGAIN || error == ETOOMANYREFS || error == EMFILE || error == ENFILE ||
           error == ENOBUFS || error == ENOMEM;
}

/* With the other end of the pair for the answer: 0, or what the kernel says. */
static int ask(struct fetching *f)
{
    const struct request request = {f->ticket, f->ticket->number, cv_self.mark};
    int error = 0;

    lock();
    if ((f->pair[1] < 0 && !open_pair(f)) ||
        !cv_passing_ask(f->socket, &f->ticket->name, &request, sizeof request, f->pair[1]))
        error = errno;
    else
        close_one(&f->pair[1]);
    unlock();
    return error;
}

/* Again, if the sender had no room for the question, or is about to end. */
static int fetch_once(struct fetching *f, int *fd)
{
    int error;
    int r;

    if (cv_member_is_dead(f->ticket->sender, 0))
        return has_died(f);
    error = ask(f);
    if (error) {
        if (may_pass(error))
            return ASK_AGAIN;
        return (error == ECONNREFUSED || error == EPIPE) && has_left(f) ? has_died(f)
                                                                        : cannot_reach(f, error);
    }
    r = wait_for_answer(f);
    return r != 0 ? r : take_answer(f, fd);
}

static int fetch(struct fetching *f, int *fd)
{
    uint64_t patience_ns = cv_clock_now() + PATIENCE_NS;
    int r;

    f->sender = (pid_t)f->ticket->pid;
    if (f->deadline_ns < patience_ns)
        f->deadline_ns = patience_ns;
    while ((r = fetch_once(f, fd)) == ASK_AGAIN) {
        if (cv_clock_now() >= f->deadline_ns)
            return is_late(f);
        cv_clock_sleep(AGAIN_NS);
    }
    return r;
}

/* Public ************************************************************************************* */

static int check(covey_queue *q)
{
    int r = cv_object_check(q, CV_QUEUE);

    return r == 0 ? cv_queue_check_objects(q) : r;
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
    r = issue(t, queue, fd);
    if (r == 0)
        r = cv_queue_put_block(queue, t, sizeof *t, timeout_s);
    if (r != 0) {
        end_ticket(t);
        look_at_tickets();
    }
    return r;
}

/* Nothing is open while it waits. */
static int get_ticket(covey_queue *q, struct cv_getting *g, struct fetching *f)
{
    for (;;) {
        int found = cv_queue_poll(q, cv_clock_left(f->deadline_ns));
        int r = found < 0 ? found : get_ready(f);

        if (r == 0)
            r = take_ticket(q, g, f);
        if (r != COVEY_EEMPTY || !found || cv_clock_now() >= f->deadline_ns)
            return r;
        put_away(f); /* another was faster */
    }
}

int covey_descriptor_get(covey_queue *queue, int *fd, double timeout_s)
{
    struct cv_getting g = {.n = 1, .takes_block = true, .kind = CV_DESCRIPTOR, .accept = announce};
    struct fetching f = {.socket = -1, .pair = {-1, -1}};
    struct cv_wait wait;
    int r = check(queue);

    if (r == 0 && !fd)
        r = cv_fail(COVEY_EINVAL, "fd is NULL: there is no place for the descriptor");
    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, queue, CV_QUEUE);
    if (r != 0)
        return r;
    cv_wait_stay(&wait); /* between its two calls for the queue, too */
    f.deadline_ns = wait.deadline_ns;
    r = get_ticket(queue, &g, &f);
    if (r == COVEY_EEMPTY)
        r = cv_fail_late(r, "queue", queue, "had no item", timeout_s);
    cv_wait_end(&wait);
    if (g.block) {
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
