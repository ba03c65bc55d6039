/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that go through a queue: one of a pair of sockets, of which its sender keeps the other.
 *
 * Who gets it writes its number, and closes it. The sender waits for that, or for the end of the file, which
 * comes when all copies are closed: because of one that is left in a process that lives he hangs. The number must be
 * there unless somebody was killed who was getting, and must be that of the sender's socket; who gets none
 * because the sender has ended is told its pid.
 */
#include "soak.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ITEMS = 6,
    SEND_ONCE_IN = 3,
    TRY_ONCE_IN = 4,
};

struct ways {
    covey_queue *queue;
    struct {
        uint32_t sends;   /* may have something in the queue */
        uint32_t getting; /* may have got something, and told nobody */
    } of[LIVES_MAX + 1];
};

static void *set_up(void)
{
    struct ways *w = covey_calloc(1, sizeof *w);

    check(w != NULL);
    check_int(covey_queue_open(&w->queue, .items = ITEMS), ==, 0);
    return w;
}

static bool is_anybody_dead(struct ways *w)
{
    for (uint32_t i = 0; i < cv_load_seq(&run->lives); i++) {
        if (cv_load_seq(&w->of[i].getting) && soak_is_doomed(i))
            return true;
    }
    return false;
}

/* Who waits in vain hangs, which is noticed. */
static void await_number(struct ways *w, int fd, uint64_t inode)
{
    uint64_t number = 0;
    ssize_t n;

    while ((n = read(fd, &number, sizeof number)) < 0)
        check_int(errno, ==, EINTR);
    if (n == 0 && !is_anybody_dead(w))
        test_fail(__FILE__, __LINE__, "descriptor: it was lost, and nobody was killed");
    if (n == 0) {
        soak_told(&soak_descriptor);
        return;
    }
    check_int(n, ==, sizeof number);
    check_int(number, ==, inode);
    check_int(read(fd, &number, sizeof number), ==, 0);
}

static void send_one(struct ways *w, double timeout_s)
{
    struct stat s;
    int fds[2];
    int r;

    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    check_int(fstat(fds[1], &s), ==, 0);
    cv_store_seq(&w->of[soak_me].sends, 1);
    r = covey_descriptor_put(w->queue, fds[1], timeout_s);
    check_int(close(fds[1]), ==, 0);
    if (r == 0) {
        await_number(w, fds[0], s.st_ino);
    } else {
        check_int(r, ==, COVEY_EFULL);
        check(timeout_s != COVEY_FOREVER);
        check_int(read(fds[0], &s, 1), ==, 0); /* no copy is left */
    }
    check_int(close(fds[0]), ==, 0);
    cv_store_seq(&w->of[soak_me].sends, 0);
}

/* The sender has died, or has gone when all did. */
static void check_dead(struct ways *w)
{
    uint32_t sender = soak_life_of(soak_pid_named());

    bool has_gone =
        sender != LIVES_MAX && run->life[sender].place == GIVER && cv_load_seq(&run->closing);

    if (sender == LIVES_MAX || !(soak_is_doomed(sender) || has_gone) ||
        !cv_load_seq(&w->of[sender].sends))
        test_fail(__FILE__, __LINE__, "descriptor: told of the death of %d, who was not killed",
            (int)soak_pid_named());
    soak_told(&soak_descriptor);
}

/* False: there was none. */
static bool receive(struct ways *w, double timeout_s)
{
    struct stat s;
    uint64_t number;
    int fd = -1;
    int r;

    cv_store_seq(&w->of[soak_me].getting, 1);
    r = covey_descriptor_get(w->queue, &fd, timeout_s);
    if (r == COVEY_EDIED) {
        check_dead(w);
    } else if (r != COVEY_EEMPTY || timeout_s == COVEY_FOREVER) {
        check_int(r, ==, 0);
        check_int(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
        check_int(fstat(fd, &s), ==, 0);
        number = s.st_ino;
        if (send(fd, &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
            check_int(errno, ==, EPIPE); /* its sender is dead */
        check_int(close(fd), ==, 0);
    }
    cv_store_seq(&w->of[soak_me].getting, 0);
    return r != COVEY_EEMPTY;
}

static void work(void *state)
{
    double timeout_s = soak_chance(TRY_ONCE_IN) ? 0 : COVEY_FOREVER;

    if (soak_chance(SEND_ONCE_IN))
        send_one(state, timeout_s);
    else
        (void)receive(state, timeout_s);
}

/* Who gets waits for one who sends, and the other way around; a sender must not wait for himself. */
static void give(void *state)
{
    struct ways *w = state;
    int fds[2];

    while (receive(w, 0)) {
    }
    if (soak_me == LIVES_MAX || soak_chance(4)) {
        check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
        cv_store_seq(&w->of[soak_me].sends, 1);
        if (covey_descriptor_put(w->queue, fds[1], 0) != 0)
            check_int(covey_error_code(), ==, COVEY_EFULL);
        check_int(close(fds[1]), ==, 0);
        check_int(close(fds[0]), ==, 0);
    }
}

static void finish(void *state)
{
    struct ways *w = state;

    while (receive(w, 0)) {
    }
    check_int(covey_queue_size(w->queue), ==, 0);
    check_int(covey_queue_free(w->queue), ==, 0);
    check_int(covey_free(w), ==, 0);
}

const struct scenario soak_descriptor = {
    "descriptor", .set_up = set_up, .work = work, .give = give, .finish = finish};
