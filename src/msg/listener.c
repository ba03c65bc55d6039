/* SPDX-License-Identifier: MIT */
#include <covey/listener.h>

#include "base/atomic.h"
#include "base/error.h"
#include "base/options.h"
#include "msg/connection.h"
#include "msg/handles.h"
#include "msg/turn.h"
#include "os/clock.h"
#include "os/poller.h"
#include "sync/any.h"
#include "sync/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BACKLOG_DEFAULT = 128,
    MODE_DEFAULT = 0600,
    MODE_MAX = 0777,
    HALF_OPEN_DEFAULT = 128,
    HALF_OPEN_MAX = 65536,
    PAUSE_NS = 100 * CV_NS_PER_MS,
    EVENTS_AFTER_DEADLINE = 64, /* of what is ready, when the time is over: a flood has no end */
};

/*
 * The thread whose turn it is to accept owns all of it.
 *
 * Connections in the making stand in two lists, the oldest first: strangers, and those who have shown
 * that they have the key. All have the same time, so the oldest one's deadline is the next of its list.
 * When there are too many, or no descriptor is left, the oldest stranger goes; so who floods the
 * listener without having the key pushes out his own kind. The poller tells when the listening socket has one more, when one of
 * these can go on, and, by its timer, when the oldest one's time is over or a pause is. One event is
 * handled at a time, so a connection that is complete is given to the caller at once, and what else is
 * ready keeps the poller readable.
 *
 * Who only waits (covey_wait()) goes on with them as well. The one that is complete then, or what has
 * failed, is kept for the next who accepts; as long as it is, the timer has the poller readable.
 *
 * The pause: without a free descriptor a connection cannot be accepted, and the listening socket stays
 * readable. So it is not looked at until the timer says so.
 */
struct list {
    covey_connection *oldest;
    covey_connection *newest;
};

struct covey_listener {
    pid_t owner;
    struct cv_descriptor socket;
    struct cv_poller poller;
    struct cv_address address;
    char text[CV_ADDRESS_TEXT_MAX];
    struct cv_socket_file file; /* of a Unix path */

    unsigned char psk[CV_TLS_KEY_BYTES];
    size_t message_max;
    uint64_t handshake_ns; /* CV_FOREVER: as long as it takes */
    unsigned half_open_max;
    void (*refused)(const char *peer, int code, const char *why, void *context);
    void *context;

    uint32_t stopped; /* 1: nobody is let in any more */
    uint32_t awaited; /* by so many threads, in covey_wait() */

    uint32_t accepting; /* a turn, for all from here on */
    struct list strangers;
    struct list known;
    unsigned half_open;         /* in both */
    uint64_t paused_until_ns;   /* 0: it is not */
    covey_connection *complete; /* kept; NULL: none */
    struct cv_end failed;       /* kept; code 0: nothing */
};

/* In the making ***************************************************************************** */

static struct list *list_of(covey_listener *l, const covey_connection *c)
{
    return c->known ? &l->known : &l->strangers;
}

/* Behind all that came before it. Those who show their key come about in the order of their age. */
static void put_in(covey_listener *l, covey_connection *c)
{
    struct list *list = list_of(l, c);
    covey_connection *older = list->newest;

    while (older && older->deadline_ns > c->deadline_ns)
        older = older->older;
    c->older = older;
    c->newer = older ? older->newer : list->oldest;
    *(c->older ? &c->older->newer : &list->oldest) = c;
    *(c->newer ? &c->newer->older : &list->newest) = c;
    l->half_open++;
}

static void take_out(covey_listener *l, covey_connection *c)
{
    struct list *list = list_of(l, c);

    *(c->older ? &c->older->newer : &list->oldest) = c->newer;
    *(c->newer ? &c->newer->older : &list->newest) = c->older;
    c->older = c->newer = NULL;
    l->half_open--;
}

static void make_known(covey_listener *l, covey_connection *c)
{
    take_out(l, c);
    c->known = true;
    put_in(l, c);
}

/* @why: a message that a next failure may overwrite. */
static void refuse(covey_listener *l, covey_connection *c, int code)
{
    take_out(l, c);
    cv_poller_remove(&l->poller, c->socket.fd);
    if (l->refused)
        l->refused(c->peer, code, covey_error(), l->context);
    cv_connection_drop(c);
}

static void drop_late(covey_listener *l, const struct list *list)
{
    uint64_t now = cv_clock_now();

    while (list->oldest && list->oldest->deadline_ns <= now) {
        (void)cv_fail(COVEY_ETIMEDOUT, "its handshake was not complete within %g s",
            (double)l->handshake_ns / CV_NS_PER_S);
        refuse(l, list->oldest, COVEY_ETIMEDOUT);
    }
}

static uint64_t earlier(uint64_t at_ns, const struct list *list)
{
    return list->oldest && list->oldest->deadline_ns < at_ns ? list->oldest->deadline_ns : at_ns;
}

static bool is_keeping(const covey_listener *l)
{
    return l->complete || l->failed.code;
}

static int set_timer(covey_listener *l)
{
    uint64_t at = l->paused_until_ns ? l->paused_until_ns : CV_FOREVER;

    at = earlier(earlier(at, &l->strangers), &l->known);
    if (is_keeping(l))
        at = 0;
    return cv_poller_set_timer(&l->poller, at);
}

/* Goes on with one: 0 with *result, if it is complete. */
static void advance(covey_listener *l, covey_connection *c, covey_connection **result)
{
    int r = cv_connection_advance(c);

    if (r == 0) {
        take_out(l, c);
        cv_poller_remove(&l->poller, c->socket.fd);
        *result = c;
        return;
    }
    if (r > 0 && !c->known && cv_connection_is_known(c))
        make_known(l, c);
    if (r > 0 && c->writes != (r == CV_CONNECTION_WRITE)) {
        c->writes = r == CV_CONNECTION_WRITE;
        r = cv_poller_change(
            &l->poller, c->socket.fd, c->writes ? CV_POLLER_WRITE : CV_POLLER_READ, c);
    }
    if (r < 0)
        refuse(l, c, r);
}

/* One more ********************************************************************************** */

static int pause_accepting(covey_listener *l)
{
    l->paused_until_ns = cv_clock_now() + PAUSE_NS;
    return cv_poller_change(&l->poller, l->socket.fd, CV_POLLER_NOTHING, &l->socket);
}

static int end_pause(covey_listener *l)
{
    if (!l->paused_until_ns || l->paused_until_ns > cv_clock_now())
        return 0;
    l->paused_until_ns = 0;
    return cv_poller_change(&l->poller, l->socket.fd, CV_POLLER_READ, &l->socket);
}

/* Somebody has to make room for one more. */
static void push_out(covey_listener *l, const char *why)
{
    covey_connection *oldest = l->strangers.oldest ? l->strangers.oldest : l->known.oldest;

    (void)cv_fail(COVEY_ELIMIT, "others came before its handshake was complete, and %s", why);
    refuse(l, oldest, COVEY_ELIMIT);
}

/* The machine lacks what one more needs. A stranger who goes leaves something for that. Without one it
 * may be a long time until there is more: only if there is something else to do is that no failure. */
static int accept_later(covey_listener *l, int code)
{
    char why[CV_END_WHY_MAX];
    int r;

    (void)snprintf(why, sizeof why, "%s", covey_error());
    if (l->strangers.oldest) {
        push_out(l, why);
        return 0;
    }
    r = pause_accepting(l);
    if (r != 0 || l->half_open > 0)
        return r;
    return cv_fail(code, "%s", why);
}

static int accept_one(covey_listener *l)
{
    struct cv_descriptor socket;
    covey_connection *c = NULL;
    int r = cv_socket_accept(&socket, l->socket.fd);

    if (r == CV_SOCKET_PENDING)
        return 0;
    if (r == 0)
        r = cv_connection_make(&c, &socket, true, l->psk, l->message_max);
    if (r == COVEY_ELIMIT || r == COVEY_ENOMEM)
        return accept_later(l, r);
    if (r != 0)
        return r;
    if (l->half_open >= l->half_open_max)
        push_out(l, "no more than half_open_max can wait");
    cv_socket_peer(c->socket.fd, &l->address, c->peer);
    c->deadline_ns = l->handshake_ns == CV_FOREVER ? CV_FOREVER : cv_clock_now() + l->handshake_ns;
    r = cv_poller_add(&l->poller, c->socket.fd, CV_POLLER_READ, c);
    if (r != 0) {
        cv_connection_drop(c);
        return accept_later(l, r);
    }
    put_in(l, c);
    return 0;
}

/* The next event: *result is set if it makes a connection complete. */
static int handle_one(covey_listener *l, covey_connection **result, uint64_t deadline_ns)
{
    void *who = NULL;
    int r = set_timer(l);

    if (r == 0)
        r = cv_poller_next(&l->poller, deadline_ns, &who);
    if (r != 0)
        return r;
    if (!who) {
        drop_late(l, &l->strangers);
        drop_late(l, &l->known);
        return end_pause(l);
    }
    if (who == &l->socket)
        return accept_one(l);
    advance(l, who, result);
    return 0;
}

static int accept_until(covey_listener *l, covey_connection **result, uint64_t deadline_ns)
{
    unsigned more = EVENTS_AFTER_DEADLINE + l->half_open_max;
    int r = 0;

    while (!*result && more > 0) {
        if (deadline_ns != CV_FOREVER && deadline_ns <= cv_clock_now())
            more--;
        r = handle_one(l, result, deadline_ns);
        if (cv_load_acquire(&l->stopped)) /* whatever the socket says to that */
            r = cv_fail(COVEY_ECLOSED, "the listener at %s was stopped", l->text);
        if (r == COVEY_EINTR)
            r = cv_wait_interrupted(NULL);
        if (r != 0)
            break;
    }
    (void)set_timer(l);
    return *result ? 0 : r ? r : COVEY_ETIMEDOUT;
}

/* What is kept, or the next. */
static int take_next(covey_listener *l, covey_connection **result, uint64_t deadline_ns)
{
    int r = l->failed.code;

    *result = l->complete;
    if (!is_keeping(l) || cv_load_acquire(&l->stopped)) {
        *result = NULL;
        return accept_until(l, result, deadline_ns);
    }
    if (r != 0)
        (void)cv_fail(r, "%s", l->failed.why);
    l->failed.code = 0;
    l->complete = NULL;
    (void)set_timer(l);
    return r;
}

/* Is there anything for who accepts? 1, 0 or COVEY_EINTR. */
static int keep_next(covey_listener *l)
{
    struct cv_error before;
    int r;

    if (is_keeping(l))
        return 1;
    cv_error_save(&before);
    r = accept_until(l, &l->complete, 0);
    if (r == COVEY_EINTR)
        return r;
    if (r != 0 && r != COVEY_ETIMEDOUT) {
        (void)snprintf(l->failed.why, sizeof l->failed.why, "%s", covey_error());
        l->failed.code = r;
    }
    (void)set_timer(l);
    cv_error_restore(&before);
    return is_keeping(l);
}

/* Opening *********************************************************************************** */

static int check_options(struct covey_listener_options *o)
{
    if (!o->listener)
        return cv_fail(COVEY_EINVAL, "listener is NULL: there is no place for the new listener");
    if (o->backlog < 0)
        return cv_fail(COVEY_EINVAL, "backlog is %d: 0 or more can be", o->backlog);
    if (o->mode > MODE_MAX)
        return cv_fail(COVEY_EINVAL, "mode is 0%o: more than 0777", o->mode);
    if (o->half_open_max > HALF_OPEN_MAX)
        return cv_fail(
            COVEY_EINVAL, "half_open_max is %u: more than %d", o->half_open_max, HALF_OPEN_MAX);
    if (!(o->handshake_timeout_s >= 0))
        return cv_fail(
            COVEY_EINVAL, "handshake_timeout_s is %g: 0 or more can be", o->handshake_timeout_s);
    if (o->backlog == 0)
        o->backlog = BACKLOG_DEFAULT;
    if (o->mode == 0)
        o->mode = MODE_DEFAULT;
    if (o->half_open_max == 0)
        o->half_open_max = HALF_OPEN_DEFAULT;
    if (o->handshake_timeout_s == 0)
        o->handshake_timeout_s = CV_HANDSHAKE_TIMEOUT_S;
    return cv_connection_check_key(o->key, o->key_size);
}

static int listen_at(covey_listener *l, const struct covey_listener_options *o)
{
    struct cv_socket_targets targets;
    int r = cv_socket_find(&targets, &l->address, true);

    if (r != 0)
        return r;
    if (l->address.kind == CV_ADDRESS_UNIX)
        return cv_socket_listen_at_path(
            &l->socket, &targets, &l->address, o->backlog, o->mode, &l->file);
    return cv_socket_listen(&l->socket, &targets, &l->address, o->backlog);
}

static void set_options(covey_listener *l, const struct covey_listener_options *o)
{
    uint64_t deadline_ns = CV_FOREVER;

    (void)cv_clock_deadline(o->handshake_timeout_s, &deadline_ns);
    l->handshake_ns =
        deadline_ns == CV_FOREVER ? CV_FOREVER : (uint64_t)(o->handshake_timeout_s * CV_NS_PER_S);
    l->message_max = o->message_max;
    l->half_open_max = o->half_open_max;
    l->refused = o->refused;
    l->context = o->context;
    l->owner = getpid();
}

/* Without the path: that is the owner's to remove. */
static void discard(covey_listener *l)
{
    cv_handle_remove(l, CV_HANDLE_LISTENER);
    cv_poller_close(&l->poller);
    if (l->owner == getpid())
        cv_socket_close(&l->socket);
    else
        cv_socket_leave(&l->socket);
    explicit_bzero(l->psk, sizeof l->psk);
    free(l);
}

static int open_listener(covey_listener *l, const struct covey_listener_options *o)
{
    int r = cv_tls_derive(l->psk, o->key, o->key_size);
    if (r == 0)
        r = cv_poller_open(&l->poller);
    if (r == 0)
        r = listen_at(l, o);
    if (r != 0)
        return r;
    cv_address_write(&l->address, l->text);
    r = cv_poller_add(&l->poller, l->socket.fd, CV_POLLER_READ, &l->socket);
    if (r != 0)
        cv_socket_remove_path(l->address.path, &l->file);
    return r;
}

int covey_listener_open_with(const struct covey_listener_options *options)
{
    struct covey_listener_options o;
    struct cv_error before;
    covey_listener *l;
    int r = cv_options_read(&o, sizeof o, options, "covey_listener_options");

    if (r == 0)
        r = check_options(&o);
    if (r != 0)
        return r;
    l = calloc(1, sizeof *l);
    if (!l)
        return cv_fail(COVEY_ENOMEM, "no memory for a listener");
    l->socket = l->poller.events = l->poller.timer = CV_NO_DESCRIPTOR;
    set_options(l, &o);
    cv_error_save(&before);
    r = cv_handle_add(l, CV_HANDLE_LISTENER);
    if (r == 0)
        r = cv_address_read(&l->address, o.address);
    if (r == 0) {
        r = open_listener(l, &o);
        if (r != 0)
            (void)cv_connection_fail_at(o.address, r);
    }
    if (r != 0) {
        discard(l);
        return r;
    }
    *o.listener = l;
    cv_error_restore(&before);
    return 0;
}

/* Public ************************************************************************************ */

static int check(const covey_listener *l)
{
    if (!l)
        return cv_fail(COVEY_EINVAL, "listener is NULL");
    if (!cv_handle_is(l, CV_HANDLE_LISTENER))
        return cv_fail(COVEY_EINVAL,
            "%p is not a listener of this process: never made, closed, or another process's",
            (const void *)l);
    return 0;
}

static int check_owner(const covey_listener *l)
{
    int r = check(l);

    if (r == 0 && l->owner != getpid())
        return cv_fail(COVEY_ENOTOWNER, "the listener at %s is process %d's, and this is %d",
            l->text, (int)l->owner, (int)getpid());
    return r;
}

static int begin(covey_listener *l, double timeout_s, uint64_t *deadline_ns)
{
    int r = check_owner(l);

    if (r == 0)
        r = cv_clock_deadline(timeout_s, deadline_ns);
    if (r == 0 && !(cv_descriptor_is_ours(&l->socket) && cv_descriptor_is_ours(&l->poller.events)))
        r = cv_fail(
            COVEY_ESTATE, "the program has closed a descriptor of the listener at %s", l->text);
    return r == 0 ? cv_turn_take(&l->accepting, *deadline_ns) : r;
}

int covey_listener_accept(covey_listener *l, covey_connection **connection, double timeout_s)
{
    struct cv_error before;
    covey_connection *c;
    uint64_t deadline_ns;
    int r = check(l);

    if (r != 0)
        return r;
    if (!connection)
        return cv_fail(
            COVEY_EINVAL, "connection is NULL: there is no place for the new connection");
    r = begin(l, timeout_s, &deadline_ns);
    if (r == 0) {
        cv_error_save(&before);
        r = take_next(l, &c, deadline_ns);
        cv_turn_give(&l->accepting);
    }
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(r, "%s: no connection within %g s", cv_address_say(l->text).text, timeout_s);
    if (r == 0) {
        *connection = c;
        cv_error_restore(&before);
    }
    return r;
}

static int check_for_any(void *object)
{
    covey_listener *l = object;
    int r = check_owner(l);

    if (r == 0)
        (void)cv_fetch_add(&l->awaited, 1);
    return r;
}

static void end_for_any(void *object)
{
    covey_listener *l = object;

    (void)cv_fetch_sub(&l->awaited, 1);
}

static int look_for_any(
    void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    covey_listener *l = object;
    uint64_t deadline_ns;
    int r = begin(l, 0, &deadline_ns);

    (void)arm;
    (void)target;
    (void)lives;
    if (r != 0)
        return r == COVEY_ETIMEDOUT ? CV_ANY_BUSY : r;
    r = keep_next(l);
    cv_turn_give(&l->accepting);
    return r;
}

static int descriptor_for_any(void *object, struct cv_descriptor *own)
{
    (void)own;
    return covey_listener_fd(object);
}

__attribute__((constructor)) static void register_kind(void)
{
    static const struct cv_any_kind kind = {
        check_for_any, look_for_any, descriptor_for_any, CV_ANY_READABLE};

    cv_any_set(COVEY_WAIT_LISTENER, &kind);
    cv_any_set_end(COVEY_WAIT_LISTENER, end_for_any);
}

const char *covey_listener_address(covey_listener *l)
{
    return check(l) == 0 ? l->text : NULL;
}

int covey_listener_fd(covey_listener *l)
{
    int r = check_owner(l);

    return r == 0 ? l->poller.events.fd : r;
}

static void empty(covey_listener *l, struct list *list, void (*end)(covey_connection *))
{
    while (list->oldest) {
        covey_connection *c = list->oldest;

        take_out(l, c);
        cv_poller_remove(&l->poller, c->socket.fd);
        end(c);
    }
}

static void empty_all(covey_listener *l, void (*end)(covey_connection *))
{
    empty(l, &l->strangers, end);
    empty(l, &l->known, end);
    if (l->complete)
        end(l->complete);
    l->complete = NULL;
}

/* The poller is closed first: the file is the parent's as well, and would forget its connections. What
 * another thread of the parent was changing at the fork is left alone. */
static void close_in_child(covey_listener *l)
{
    cv_poller_close(&l->poller);
    if (l->accepting == 0)
        empty_all(l, cv_connection_discard);
    discard(l);
}

int covey_listener_stop(covey_listener *l)
{
    int r = check_owner(l);

    if (r != 0)
        return r;
    cv_store_seq(&l->stopped, 1);
    if (cv_descriptor_is_ours(&l->socket))
        cv_socket_cut(l->socket.fd); /* which wakes who waits */
    return 0;
}

int covey_listener_close(covey_listener *l)
{
    struct cv_error before;
    int r = l ? check(l) : 0;

    if (!l || r != 0)
        return r;
    cv_error_save(&before);
    if (l->owner != getpid()) {
        close_in_child(l);
        return 0;
    }
    if (cv_load_acquire(&l->awaited))
        return cv_fail(COVEY_ESTATE, "another thread waits for who comes to %s", l->text);
    if (cv_turn_take(&l->accepting, 0) != 0)
        return cv_fail(COVEY_ESTATE, "another thread is accepting at %s", l->text);
    empty_all(l, cv_connection_drop);
    if (l->address.kind == CV_ADDRESS_UNIX)
        cv_socket_remove_path(l->address.path, &l->file);
    discard(l);
    cv_error_restore(&before);
    return 0;
}
