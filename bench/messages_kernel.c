/* SPDX-License-Identifier: MIT */
/* What the kernel has: pipes, sockets, message queues, and, to sleep, futexes. */
#include "messages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PIPE_BYTES = 1 << 20,
    MQ_ITEMS = 1000,
    MQ_ITEMS_OF_ALL = 10, /* for who may not have more */
};

static const struct plan *plan;
static int in[WAYS_MAX];
static int out[WAYS_MAX];

static void write_all(int fd, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);

        fail_if(done < 0, "write");
        bytes += done;
        n -= (size_t)done;
    }
}

static void read_all(int fd, unsigned char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = read(fd, bytes, n);

        fail_if(done <= 0, "read");
        bytes += done;
        n -= (size_t)done;
    }
}

static void put_bytes(unsigned way, const void *items)
{
    write_all(out[way], items, plan->size);
}

static void get_bytes(unsigned way, void *items)
{
    read_all(in[way], items, plan->size);
}

/* What several write at once is whole up to PIPE_BUF only. */
static void make_pipe(const struct plan *p)
{
    plan = p;
    fail_if(p->producers + p->consumers > 2 && p->size > PIPE_BUF, "several at a pipe");
    for (unsigned i = 0; i < p->ways; i++) {
        int ends[2];

        fail_if(pipe2(ends, O_CLOEXEC) != 0, "pipe");
        (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
        in[i] = ends[0];
        out[i] = ends[1];
    }
}

/* A stream between two, and packets between several. */
static void make_socket(const struct plan *p)
{
    int type = p->producers + p->consumers > 2 ? SOCK_SEQPACKET : SOCK_STREAM;

    plan = p;
    for (unsigned i = 0; i < p->ways; i++) {
        int ends[2];
        int bytes = PIPE_BYTES;

        fail_if(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0, "socketpair");
        (void)setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        in[i] = ends[0];
        out[i] = ends[1];
    }
}

static void make_mq(const struct plan *p)
{
    plan = p;
    for (unsigned i = 0; i < p->ways; i++) {
        struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
        struct mq_attr a = {.mq_maxmsg = MQ_ITEMS, .mq_msgsize = (long)p->size};
        char name[64];

        (void)snprintf(name, sizeof name, "/bench-messages-%d-%u", (int)getpid(), i);
        (void)setrlimit(RLIMIT_MSGQUEUE, &all);
        in[i] = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &a);
        if (in[i] < 0) {
            a.mq_maxmsg = MQ_ITEMS_OF_ALL;
            in[i] = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &a);
        }
        fail_if(in[i] < 0, "mq_open");
        (void)mq_unlink(name);
    }
}

static void put_mq(unsigned way, const void *items)
{
    fail_if(mq_send(in[way], items, plan->size, 0) != 0, "mq_send");
}

static void get_mq(unsigned way, void *items)
{
    fail_if(mq_receive(in[way], items, plan->size, NULL) < 0, "mq_receive");
}

/* No message: a word, and sleeping until it changes. What it costs when both sides sleep. */
static uint32_t *word[WAYS_MAX];

static void make_futex(const struct plan *p)
{
    plan = p;
    for (unsigned i = 0; i < p->ways; i++) {
        word[i] = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        fail_if(word[i] == MAP_FAILED, "shared memory");
    }
}

static void put_futex(unsigned way, const void *items)
{
    (void)items;
    __atomic_store_n(word[way], 1, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, word[way], FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void get_futex(unsigned way, void *items)
{
    (void)items;
    while (__atomic_load_n(word[way], __ATOMIC_ACQUIRE) == 0)
        (void)syscall(SYS_futex, word[way], FUTEX_WAIT, 0, NULL, NULL, 0);
    __atomic_store_n(word[way], 0, __ATOMIC_RELEASE);
}

/* The same, but who sleeps hears of a death, too: two more words are watched. */
static void get_waitv(unsigned way, void *items)
{
    static uint32_t *others; /* never written */

    (void)items;
    if (!others)
        others = mmap(NULL, 256, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fail_if(others == MAP_FAILED, "shared memory");
    while (__atomic_load_n(word[way], __ATOMIC_ACQUIRE) == 0) {
        struct futex_waitv v[] = {
            {.uaddr = (uintptr_t)word[way], .flags = FUTEX_32},
            {.uaddr = (uintptr_t)others, .flags = FUTEX_32},
            {.uaddr = (uintptr_t)(others + 32), .flags = FUTEX_32},
        };

        (void)syscall(SYS_futex_waitv, v, 3, 0, NULL, CLOCK_MONOTONIC);
    }
    __atomic_store_n(word[way], 0, __ATOMIC_RELEASE);
}

const struct channel channels[] = {
    {.name = "pipe", .make = make_pipe, .put = put_bytes, .get = get_bytes},
    {.name = "socket", .make = make_socket, .put = put_bytes, .get = get_bytes},
    {.name = "mq", .make = make_mq, .put = put_mq, .get = get_mq},
    {.name = "futex", .make = make_futex, .put = put_futex, .get = get_futex},
    {.name = "waitv", .make = make_futex, .put = put_futex, .get = get_waitv},
    {0},
};
