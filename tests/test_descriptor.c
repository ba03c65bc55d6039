/* SPDX-License-Identifier: MIT */
/* Descriptors that go from process to process. */
#include "children.h"
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

struct ways {
    covey_queue *there;
    covey_queue *back;
    int word;
};

static struct ways *open_ways(void)
{
    struct ways *w = covey_calloc(1, sizeof *w);

    check_int(covey_queue_open(&w->there), ==, 0);
    check_int(covey_queue_open(&w->back), ==, 0);
    return w;
}

static void free_ways(struct ways *w)
{
    check_int(covey_queue_free(w->there), ==, 0);
    check_int(covey_queue_free(w->back), ==, 0);
    check_int(covey_free(w), ==, 0);
}

/* A pipe of the kernel's, of which one end is put, and only the copy is left of that. */
static int put_write_end(covey_queue *queue)
{
    int ends[2];

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(covey_descriptor_put(queue, ends[1], 1), ==, 0);
    check_int(close(ends[1]), ==, 0);
    return ends[0];
}

static void check_says(int fd, const char *text)
{
    char got[16] = "";

    check_int(read(fd, got, sizeof got - 1), ==, (long)strlen(text));
    check_str(got, text);
}

/* Has nobody the other end any more, within 10 s? */
static void check_ends(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    check_int(poll(&p, 1, 10000), ==, 1);
    check_int(read(fd, &byte, 1), ==, 0);
    check_int(close(fd), ==, 0);
}

static void end_server(enum covey_method method)
{
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

/* From there to here ************************************************************************* */

/* Writes into the one that it gets, and passes the end of one of its own back. */
static int answer(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int fd = -1;
    int end;

    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
    check_int(write(fd, "child", 5), ==, 5);
    check_int(close(fd), ==, 0);
    end = put_write_end(w->back);
    check_says(end, "parent");
    check_ends(end);
    return 0;
}

/* The child is there before the threads are: some sanitizers do not like to follow them into a fork. */
TEST_METHODS(a_descriptor_goes_to_a_child_and_back, 30)
{
    struct ways *w = open_ways();
    covey_process *child = child_start(answer, w, method);
    int end = put_write_end(w->there);
    int fd = -1;

    check_says(end, "child");
    check_ends(end);
    check_int(covey_descriptor_get(w->back, &fd, COVEY_FOREVER), ==, 0);
    check_int(write(fd, "parent", 6), ==, 6);
    check_int(close(fd), ==, 0);
    child_join(child, 0);
    free_ways(w);
    end_server(method);
}

static int send_to_sibling(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int end = put_write_end(w->there);

    check_says(end, "child");
    check_ends(end);
    return 0;
}

static int receive_from_sibling(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int fd = -1;

    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(write(fd, "child", 5), ==, 5);
    return 0;
}

TEST_METHODS(a_descriptor_goes_to_a_sibling, 30)
{
    struct ways *w = open_ways();
    covey_process *a = child_start(receive_from_sibling, w, method);
    covey_process *b = child_start(send_to_sibling, w, method);

    child_join(a, 0);
    child_join(b, 0);
    free_ways(w);
    end_server(method);
}

TEST(descriptors_keep_their_place_among_messages)
{
    unsigned before = test_open_descriptors();
    covey_pipe *here, *there;
    covey_queue *out, *in;
    int fd = -1;
    int end;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    out = covey_pipe_outgoing(here);
    in = covey_pipe_incoming(there);
    for (int i = 0; i < 20; i++) {
        check_int(covey_pipe_send(here, "one", 4, 0), ==, 0);
        end = put_write_end(out);
        check_int(covey_pipe_send(here, "two", 4, 0), ==, 0);
        check_fails(covey_descriptor_get(in, &fd, 0), COVEY_EINVAL, "is no descriptor");
        check_int(covey_pipe_receive(there, (char[4]){0}, 4, NULL, 0), ==, 0);
        check_int(covey_descriptor_get(in, &fd, 0), ==, 0);
        check_int(covey_pipe_receive(there, (char[4]){0}, 4, NULL, 0), ==, 0);
        check_int(close(fd), ==, 0);
        check_ends(end);
    }
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    while (test_open_descriptors() != before + 2) /* its socket, and the spare */
        test_sleep_ms(1);
    check_int(test_helper_threads(), ==, 1);
    check_int(covey_close(), ==, 0);
}

enum {
    MANY = 100,
};

static int take_many(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int fd;
    int r;

    while ((r = covey_descriptor_get(w->there, &fd, COVEY_FOREVER)) == 0) {
        check_int(write(fd, "x", 1), ==, 1);
        check_int(close(fd), ==, 0);
    }
    return r == COVEY_ECLOSED ? 0 : 1;
}

struct putter {
    covey_queue *queue;
    pthread_t thread;
    int ends[MANY];
};

static void *put_many(void *argument)
{
    struct putter *p = argument;

    for (int i = 0; i < MANY; i++)
        p->ends[i] = put_write_end(p->queue);
    return NULL;
}

TEST(many_threads_and_processes_pass_descriptors, .deadline_s = 60)
{
    struct ways *w = open_ways();
    const bool before = TEST_ASAN || TEST_TSAN; /* whose memory does not outlive a fork */
    covey_process *children[3];
    struct putter putters[3];

    for (int i = 0; i < 3 && before; i++)
        children[i] = child_start(take_many, w, COVEY_FORK);
    for (int i = 0; i < 3; i++) {
        putters[i].queue = w->there;
        check_int(pthread_create(&putters[i].thread, NULL, put_many, &putters[i]), ==, 0);
    }
    for (int i = 0; i < 3 && !before; i++) /* while descriptors are put and handed over */
        children[i] = child_start(take_many, w, COVEY_FORK);
    for (int i = 0; i < 3; i++)
        check_int(pthread_join(putters[i].thread, NULL), ==, 0);
    check_int(covey_queue_close(w->there), ==, 0);
    for (int i = 0; i < 3; i++)
        child_join(children[i], 0);
    for (int i = 0; i < 3 * MANY; i++) {
        check_says(putters[i / MANY].ends[i % MANY], "x");
        check_ends(putters[i / MANY].ends[i % MANY]);
    }
    free_ways(w);
}

/* Arguments and limits *********************************************************************** */

TEST(what_is_no_descriptor_is_named)
{
    unsigned before = test_open_descriptors();
    covey_queue *queue, *joinable;
    int fd = -1;

    check_int(covey_queue_open(&queue, .items = 1), ==, 0);
    check_int(covey_queue_open(&joinable, .joinable = true), ==, 0);
    check_fails(covey_descriptor_put(queue, -1, 0), COVEY_EINVAL, "-1 is no open descriptor");
    check_fails(covey_descriptor_put(NULL, 0, 0), COVEY_EINVAL, "queue is NULL");
    check_fails(covey_descriptor_put(joinable, 0, 0), COVEY_ESTATE, "joinable");
    check_fails(covey_descriptor_get(joinable, &fd, 0), COVEY_ESTATE, "joinable");
    check_fails(covey_descriptor_get(queue, NULL, 0), COVEY_EINVAL, "fd is NULL");
    check_fails(covey_descriptor_get(queue, &fd, 0.0 / 0.0), COVEY_EINVAL, "number");
    check_int(covey_descriptor_get(queue, &fd, 0.01), ==, COVEY_EEMPTY);
    check_int(covey_queue_put(queue, "x", 1, 0), ==, 0);
    check_int(covey_descriptor_put(queue, 1, 0), ==, COVEY_EFULL);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_queue_free(joinable), ==, 0);
    check_int(covey_close(), ==, 0);
    check_int(test_open_descriptors(), <=, before);
}

static int use_up(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    struct rlimit limit = {64, 64};
    int fd = -1;
    int last = -1;

    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        last = fd;
    check_int(covey_descriptor_put(w->back, 1, 0), ==, COVEY_ELIMIT);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, COVEY_ELIMIT);
    for (int i = 0; i < 3; i++) { /* three are needed; two are left */
        check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, COVEY_ELIMIT);
        (void)close(last - i);
    }
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, COVEY_ELIMIT);
    check_int(close(fd), ==, 0);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    return 0;
}

TEST(no_more_descriptors_are_a_limit, .not_in_valgrind = "it needs some itself")
{
    struct ways *w = open_ways();
    int first = put_write_end(w->there);
    int second = put_write_end(w->there);

    child_join(child_start(use_up, w, COVEY_FORK), 0);
    check_ends(first);
    check_ends(second);
    free_ways(w);
}

/* The name of this process's socket. */
static struct sockaddr_un find_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    for (int fd = 3; fd < 64; fd++) {
        socklen_t size = sizeof address;

        if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 && size == 8)
            return address;
    }
    test_fail(__FILE__, __LINE__, "no socket");
}

static int connect_to(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    check_int(fd, >=, 0);
    (void)connect(fd, (const struct sockaddr *)address, offsetof(struct sockaddr_un, sun_path) + 6);
    return fd;
}

/* Something that no question is, perhaps with a descriptor. */
static void send_nonsense(int socket, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec data = {(void *)(uintptr_t) "nonsense", 8};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    (void)sendmsg(socket, &message, MSG_NOSIGNAL);
}

static bool is_null(int fd)
{
    struct stat null, file;

    return stat("/dev/null", &null) == 0 && fstat(fd, &file) == 0 && file.st_rdev == null.st_rdev;
}

static int get_when_told(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int fd = -1;

    word_await(&w->word, 1);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(close(fd), ==, 0);
    return 0;
}

/* Several get at the same time, and one sends nonsense: there is no place for any of them. */
TEST(who_has_no_more_descriptors_hands_them_over_still, .not_in_valgrind = "it needs some itself")
{
    struct ways *w = open_ways();
    struct rlimit old;
    covey_process *children[4];
    struct sockaddr_un address;
    int ends[4], guest, fd, first;

    for (int i = 0; i < 4; i++)
        children[i] = child_start(get_when_told, w, COVEY_FORK);
    for (int i = 0; i < 4; i++)
        ends[i] = put_write_end(w->there);
    address = find_socket();
    guest = connect_to(&address);
    check_int(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, old.rlim_max}), ==, 0);
    first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        check_int(fd, >, first);
    for (int i = 0; i < 4; i++)
        send_nonsense(guest, i % 2 ? STDIN_FILENO : -1);
    word_set(&w->word, 1);
    for (int i = 0; i < 4; i++) {
        child_join(children[i], 0);
        check_ends(ends[i]);
    }
    check_int(close(guest), ==, 0);
    for (fd = first; fd < 64; fd++) { /* some are covey's own */
        if (is_null(fd))
            check_int(close(fd), ==, 0);
    }
    check_int(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    free_ways(w);
}

enum {
    PUTS_AT_LIMIT = 500,
};

static int get_until_closed(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int fd = -1;
    int r;

    while ((r = covey_descriptor_get(w->there, &fd, COVEY_FOREVER)) == 0) {
        check(is_null(fd));
        check_int(close(fd), ==, 0);
        (void)word_add(&w->word, 1);
    }
    check_int(r, ==, COVEY_ECLOSED);
    return 0;
}

/* Who puts wants every place for its copies. */
TEST(at_the_limit_nothing_is_lost, .deadline_s = 60, .not_in_valgrind = "it needs some itself")
{
    struct ways *w = open_ways();
    covey_process *children[4];
    struct rlimit old;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int refused = 0;

    for (int i = 0; i < 4; i++)
        children[i] = child_start(get_until_closed, w, COVEY_FORK);
    check_int(covey_descriptor_put(w->there, null, 0), ==, 0);
    check_int(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &(struct rlimit){test_open_descriptors() + 4, old.rlim_max}),
        ==, 0);
    for (int i = 1; i < PUTS_AT_LIMIT;) {
        int r = covey_descriptor_put(w->there, null, 0);

        if (r == 0)
            i++;
        else
            check(r == COVEY_ELIMIT || r == COVEY_EFULL);
        refused += r == COVEY_ELIMIT;
    }
    check_int(covey_queue_close(w->there), ==, 0);
    for (int i = 0; i < 4; i++)
        child_join(children[i], 0);
    check_int(word_get(&w->word), ==, PUTS_AT_LIMIT);
    check_int(refused, >, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(close(null), ==, 0);
    free_ways(w);
}

/* Ends *************************************************************************************** */

static int put_and_wait(void *argument)
{
    struct ways *w = *(struct ways **)argument;

    for (int i = 0; i < 3; i++)
        (void)put_write_end(w->there);
    word_set(&w->word, 1);
    pause();
    return 0;
}

static int do_nothing(void *argument)
{
    (void)argument;
    return 0;
}

TEST_METHODS(who_gets_is_told_that_the_sender_has_died, 30)
{
    struct ways *w = open_ways();
    covey_process *child = child_start(put_and_wait, w, method);
    char has_ended[64];
    unsigned before;
    int fd = -1;

    word_await(&w->word, 1);
    before = test_open_descriptors();
    (void)snprintf(
        has_ended, sizeof has_ended, "process %d has ended", (int)covey_process_pid(child));
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(close(fd), ==, 0);
    check_int(covey_process_kill(child), ==, 0);
    child_join(child, -SIGKILL);
    check_fails(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), COVEY_EDIED, has_ended);
    child = child_start(do_nothing, w, COVEY_FORK); /* takes the other one's place in the family */
    child_join(child, 0);
    check_fails(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), COVEY_EDIED, has_ended);
    check_int(covey_descriptor_get(w->there, &fd, 0), ==, COVEY_EEMPTY);
    check_int(test_open_descriptors(), <=, before);
    free_ways(w);
    end_server(method);
}

TEST(a_stopped_sender_is_waited_for_as_long_as_the_timeout_says)
{
    struct ways *w = open_ways();
    covey_process *child = child_start(put_and_wait, w, COVEY_FORK);
    double start_s;
    int fd = -1;

    word_await(&w->word, 1);
    check_int(kill(covey_process_pid(child), SIGSTOP), ==, 0);
    while (test_state_of(covey_process_pid(child)) != 'T')
        test_sleep_ms(1);
    start_s = test_now_s();
    check_fails(covey_descriptor_get(w->there, &fd, 0), COVEY_ETIMEDOUT, "has not handed");
    check(test_now_s() - start_s > 0.9);
    check_int(kill(covey_process_pid(child), SIGCONT), ==, 0);
    check_int(covey_descriptor_get(w->there, &fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    check_int(kill(covey_process_pid(child), SIGSTOP), ==, 0);
    check_int(kill(covey_process_pid(child), SIGKILL), ==, 0);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, COVEY_EDIED);
    child_join(child, -SIGKILL);
    free_ways(w);
}

/* It has a child that the C library knows nothing of, and that keeps all descriptors. */
static int put_and_wait_with_child(void *argument)
{
    pid_t parent = getpid();
    struct ways *w = *(struct ways **)argument;

    (void)put_write_end(w->there);
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) == 0) {
        while (getppid() == parent)
            test_sleep_ms(1);
        test_sleep_ms(2000);
        _exit(0);
    }
    return put_and_wait(argument);
}

static void *kill_after_a_while(void *child)
{
    test_sleep_ms(50);
    check_int(covey_process_kill(child), ==, 0);
    return NULL;
}

TEST(the_death_of_a_sender_whose_sockets_live_on_is_noticed)
{
    struct ways *w = open_ways();
    covey_process *child;
    pthread_t killer;
    double start_s;
    int fd = -1;

    check_int(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
    child = child_start(put_and_wait_with_child, w, COVEY_FORK);
    word_await(&w->word, 1);
    check_int(kill(covey_process_pid(child), SIGSTOP), ==, 0);
    while (test_state_of(covey_process_pid(child)) != 'T')
        test_sleep_ms(1);
    start_s = test_now_s();
    check_int(pthread_create(&killer, NULL, kill_after_a_while, child), ==, 0);
    check_fails(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), COVEY_EDIED, "has ended");
    check(test_now_s() - start_s < 1.5);
    check_int(pthread_join(killer, NULL), ==, 0);
    child_join(child, -SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) { /* its child */
    }
    free_ways(w);
}

static int put_and_leave(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    pid_t pid = getppid();

    (void)put_write_end(w->there);
    word_set(&w->word, 1);
    check_int(covey_close(), ==, 0);
    while (getppid() == pid)
        test_sleep_ms(1);
    return 0;
}

static volatile sig_atomic_t forked;

static void fork_in_handler(int number)
{
    pid_t pid = fork();

    (void)number;
    if (pid == 0)
        _exit(0);
    test_reap(pid, 0);
    forked++;
}

/* It has no more descriptors when it is that far ahead. */
static int put_until_closed(void *argument)
{
    struct ways *w = *(struct ways **)argument;
    int r;

    while ((r = covey_descriptor_put(w->there, STDERR_FILENO, COVEY_FOREVER)) == 0 ||
           r == COVEY_ELIMIT) {
        if (r != 0)
            (void)usleep(1000);
    }
    check_int(r, ==, COVEY_ECLOSED);
    return 0;
}

TEST(a_signal_handler_may_fork_while_a_descriptor_is_got, .deadline_s = 60,
    .not_in_valgrind = "it does not fork in handlers")
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    struct ways *w = open_ways();
    covey_process *child;

    if (TEST_TSAN)
        test_skip("it does not fork in handlers");
    child = child_start(put_until_closed, w, COVEY_FORK);
    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    for (int i = 0; i < 500 || forked < 50; i++) {
        int fd = -1;

        if (i % 5 == 0)
            (void)ualarm(200, 0);
        check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
        check_int(close(fd), ==, 0);
    }
    (void)ualarm(0, 0);
    check_int(covey_queue_close(w->there), ==, 0);
    child_join(child, 0);
    free_ways(w);
}

TEST(who_has_left_the_family_hands_nothing_over)
{
    struct ways *w = open_ways();
    int word = 0;
    pid_t pid = fork();
    int fd = -1;

    if (pid == 0)
        _exit(put_and_leave(&w));
    word_await(&w->word, 1);
    check_fails(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), COVEY_EDIED, "left the family");
    (void)word;
    child_kill(pid);
    free_ways(w);
}

TEST(a_descriptor_that_nobody_gets_ends_with_its_item)
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    int other = put_write_end(w->back);
    char bytes[256];
    const void *seen;
    void *block;
    pid_t pid;

    check_int(covey_queue_free(w->there), ==, 0); /* by who has put it */
    check_ends(end);
    check_int(covey_queue_open(&w->there), ==, 0);
    check_fails(covey_queue_get(w->back, bytes, sizeof bytes, NULL, 0), COVEY_EINVAL, "no bytes");
    check_fails(covey_queue_get_block(w->back, &block, NULL, 0), COVEY_EINVAL, "no bytes");
    check_fails(covey_queue_peek(w->back, &seen, NULL, 0), COVEY_EINVAL, "no bytes");
    end = put_write_end(w->there);
    pid = fork();
    if (pid == 0) { /* by another */
        check_int(covey_queue_free(w->there), ==, 0);
        _exit(0);
    }
    test_reap(pid, 0);
    check_ends(end);
    check_int(covey_queue_free(w->back), ==, 0);
    check_ends(other);
    check_int(covey_free(w), ==, 0);
}

static void look_for_ever(void *argument)
{
    struct ways *w = argument;
    const void *seen;

    check_int(covey_queue_peek(w->there, &seen, NULL, 0), ==, 0);
    word_set(&w->word, 1);
    pause();
}

TEST(a_descriptor_is_not_waited_for_any_longer_than_was_said)
{
    struct ways *w = open_ways();
    double begin;
    pid_t pid;
    int fd;

    check_int(covey_queue_put(w->there, "x", 1, 0), ==, 0);
    pid = child_fork(look_for_ever, w);
    word_await(&w->word, 1);
    begin = test_now_s();
    check_fails(covey_descriptor_get(w->there, &fd, 0.1), COVEY_EEMPTY, "no item within 0.1 s");
    check(test_now_s() - begin < 5);
    child_kill(pid);
    free_ways(w);
}

/* A queue has a number, as members have. */
TEST(many_queues_have_been_there_before)
{
    covey_queue *q;

    check_int(covey_open(.memory_max = 1 << 20), ==, 0);
    for (int i = 0; i < 3000; i++) {
        check_int(covey_queue_open(&q, .items = 4, .item_size = 8), ==, 0);
        check_int(covey_queue_free(q), ==, 0);
    }
    check_int(covey_queue_open(&q, .bytes = 4096), ==, 0);
    check_int(covey_descriptor_put(q, STDIN_FILENO, 0), ==, 0);
    check_int(covey_descriptor_put(q, STDIN_FILENO, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_close(), ==, 0);
}

static void get_and_die(void *argument)
{
    struct ways *w = argument;
    int fd;

    (void)covey_descriptor_get(w->there, &fd, COVEY_FOREVER);
    raise(SIGKILL);
}

static void get_for_ever(void *argument)
{
    struct ways *w = argument;
    int fd;

    for (;;) {
        if (covey_descriptor_get(w->there, &fd, COVEY_FOREVER) == 0)
            (void)close(fd);
    }
}

/* Only the sender is left to notice it: it hears of the question when who has asked is dead. */
TEST(what_a_killed_process_was_getting_ends)
{
    struct ways *w = open_ways();
    pid_t sender, receiver;
    int ends[2];

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    sender = fork();
    if (sender == 0) {
        check_int(covey_descriptor_put(w->there, ends[1], 0), ==, 0);
        check_int(close(ends[1]), ==, 0);
        word_set(&w->word, 1);
        pause();
    }
    check_int(close(ends[1]), ==, 0);
    word_await(&w->word, 1);
    check_int(kill(sender, SIGSTOP), ==, 0);
    while (test_state_of(sender) != 'T')
        test_sleep_ms(1);
    receiver = child_fork(get_and_die, w);
    child_await_sleep(receiver);
    child_kill(receiver);
    check_int(kill(sender, SIGCONT), ==, 0);
    check_ends(ends[0]);
    child_kill(sender);
    free_ways(w);
}

/* Is killed by its alarm. */
static void get_for_a_while(void *argument)
{
    struct ways *w = argument;

    while (word_get(&w->word) <= 0)
        continue;
    (void)ualarm((unsigned)word_get(&w->word), 0);
    get_for_ever(w);
}

/* Nobody buries them, and no descriptor is put any more. */
TEST(what_killed_processes_were_getting_ends, .deadline_s = 60)
{
    struct ways *w = open_ways();

    for (int i = 0; i < 100; i++) {
        pid_t pid;
        int ends[2];
        int fd;

        word_set(&w->word, 0);
        pid = child_fork(get_for_a_while, w);
        check_int(pipe2(ends, O_CLOEXEC), ==, 0);
        for (int k = 0; k < 40; k++)
            check_int(covey_descriptor_put(w->there, ends[1], 0), ==, 0);
        check_int(close(ends[1]), ==, 0);
        word_set(&w->word, 100 + i * 37 % 1000);
        test_reap(pid, SIGALRM);
        while (covey_descriptor_get(w->there, &fd, 0) == 0)
            check_int(close(fd), ==, 0);
        check_ends(ends[0]);
    }
    free_ways(w);
}

/* Whenever a receiver is killed, what it was about to get ends, and the next one gets the next. */
TEST(receivers_are_killed, .deadline_s = 60)
{
    struct ways *w = open_ways();
    struct covey_stats stats = {.size = sizeof stats};

    int end = put_write_end(w->there);

    test_reap(child_fork(get_and_die, w), SIGKILL);
    check_ends(end);
    for (int i = 0; i < 60; i++) {
        pid_t pid = child_fork(get_for_ever, w);
        int ends[8];
        int fd;

        for (int k = 0; k < 8; k++)
            ends[k] = put_write_end(w->there);
        if (i % 2)
            test_sleep_ms((unsigned)i % 4);
        child_kill(pid);
        while (covey_descriptor_get(w->there, &fd, 0) == 0)
            check_int(close(fd), ==, 0);
        check_int(covey_error_code(), ==, COVEY_EEMPTY);
        check_int(covey_stats(&stats), ==, 0); /* buries */
        for (int k = 0; k < 8; k++)
            check_ends(ends[k]);
    }
    free_ways(w);
}

static int put_for_ever(void *argument)
{
    struct ways *w = *(struct ways **)argument;

    for (;;) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        check_int(covey_descriptor_put(w->there, fd, COVEY_FOREVER), ==, 0);
        (void)close(fd);
    }
}

TEST(senders_are_killed, .deadline_s = 60)
{
    struct ways *w = open_ways();
    unsigned before = test_open_descriptors();
    int got = 0;

    for (int i = 0; i < 60; i++) {
        covey_process *child = child_start(put_for_ever, w, COVEY_FORK);
        double end_s = test_now_s() + 0.001 * (i % 20);
        int r = 0;
        int fd;

        do {
            r = covey_descriptor_get(w->there, &fd, 1);
            if (r == 0) {
                check_int(close(fd), ==, 0);
                got++;
            }
        } while (test_now_s() < end_s);
        check_int(covey_process_kill(child), ==, 0);
        while ((r = covey_descriptor_get(w->there, &fd, 0)) != COVEY_EEMPTY) {
            check(r == 0 || r == COVEY_EDIED);
            if (r == 0)
                check_int(close(fd), ==, 0);
        }
        child_join(child, -SIGKILL);
        while ((r = covey_descriptor_get(w->there, &fd, 0)) != COVEY_EEMPTY)
            check_int(r, ==, COVEY_EDIED);
    }
    check_int(got, >, 0);
    check_int(test_open_descriptors(), <=, before + 1);
    free_ways(w);
}

/* A good guest ******************************************************************************* */

TEST(a_forked_child_has_no_copies, .not_in_valgrind = "it has no such forks")
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    unsigned before = test_open_descriptors();
    int fd = -1;
    pid_t pid;

    if (TEST_TSAN)
        test_skip("it cannot follow threads into a fork");
    while (test_helper_threads() == 0) /* other sanitizers cannot while they begin */
        test_sleep_ms(1);
    for (int raw = 0; raw < 2; raw++) {
        pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();
        if (pid == 0) {
            int ends[2];

            if (!raw)
                check_int(
                    test_open_descriptors(), ==, before - 3); /* the copy, the socket, the spare */
            check_int(pipe2(ends, O_CLOEXEC), ==, 0);
            check_int(covey_descriptor_put(w->back, ends[1], 0), ==, 0);
            check_int(test_open_descriptors(), ==, before + 2);
            pause();
        }
        check_int(pid, >, 0);
        test_sleep_ms(50);
        if (raw == 0)
            child_kill(pid);
    }
    check_int(covey_descriptor_get(w->there, &fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    check_ends(end);
    child_kill(pid);
    free_ways(w);
}

static void bother(void *address)
{
    int guests[100];

    for (int i = 0; i < 100; i++) {
        guests[i] = connect_to(address);
        if (i % 4 == 0)
            (void)send(guests[i], "", 0, MSG_NOSIGNAL);
        else
            send_nonsense(guests[i], i % 2 ? -1 : guests[i]);
    }
    for (int i = 0; i < 100; i++)
        check_int(close(guests[i]), ==, 0);
}

/* A socket that takes so long to be closed: its other end reads nothing. */
static int open_lingering(int seconds, int *other)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger linger = {1, seconds};
    socklen_t size = sizeof address;
    char bytes[4096] = {0};
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    check_int(listen(listening, 1), ==, 0);
    check_int(getsockname(listening, (struct sockaddr *)&address, &size), ==, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check_int(connect(fd, (struct sockaddr *)&address, size), ==, 0);
    *other = accept(listening, NULL, NULL);
    check_int(*other, >=, 0);
    check_int(close(listening), ==, 0);
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
    check_int(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), ==, 0);
    return fd;
}

static void fork_and_reap(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    test_reap(pid, 0);
}

TEST(nobody_waits_for_a_descriptor_to_be_closed, .not_in_valgrind = "it measures time")
{
    struct ways *w = open_ways();
    covey_queue *queue;
    int other;
    int fd = open_lingering(3, &other);
    double begin;
    int end;

    check_int(covey_queue_open(&queue, .items = 4), ==, 0);
    check_int(covey_descriptor_put(queue, fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    end = put_write_end(w->there);
    begin = test_now_s();
    check_int(covey_queue_free(queue), ==, 0);
    test_sleep_ms(200);
    fork_and_reap();
    check_int(covey_descriptor_get(w->there, &fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    check(test_now_s() - begin < 1.5);
    check_int(test_helper_threads(), ==, 2);
    while (test_helper_threads() > 1)
        test_sleep_ms(10);
    check(test_now_s() - begin > 1.5); /* it did take long */
    check_int(close(other), ==, 0);
    check_ends(end);
    free_ways(w);
}

struct stranger {
    struct sockaddr_un address;
    struct ways *w;
};

static void send_lingering(void *argument)
{
    struct stranger *s = argument;
    int guest = connect_to(&s->address);
    int other;
    int fd = open_lingering(5, &other);

    send_nonsense(guest, fd);
    check_int(close(fd), ==, 0);
    word_set(&s->w->word, 1);
    pause();
}

TEST(a_stranger_does_not_hold_up_a_fork, .not_in_valgrind = "it measures time")
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    struct stranger s = {find_socket(), w};
    double begin;
    pid_t pid;
    int fd = -1;

    if (TEST_TSAN)
        test_skip("it cannot follow threads into a fork");
    pid = child_fork(send_lingering, &s);
    word_await(&w->word, 1);
    test_sleep_ms(200);
    begin = test_now_s();
    fork_and_reap();
    check_int(covey_descriptor_put(w->back, end, 0), ==, 0);
    check(test_now_s() - begin < 2);
    child_kill(pid);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(close(fd), ==, 0);
    check_ends(end);
    free_ways(w);
}

static volatile sig_atomic_t lost;

/* This may get the number of a copy that is just being closed, and is the same file. */
static void open_and_fork_in_handler(int number)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int status = -1;
    pid_t pid = fork();

    (void)number;
    if (pid == 0)
        _exit(fcntl(fd, F_GETFD) < 0);
    while (waitpid(pid, &status, 0) < 0)
        continue;
    lost += status != 0;
    forked++;
    (void)close(fd);
}

TEST(a_forked_child_has_what_is_the_programs, .deadline_s = 60,
    .not_in_valgrind = "it does not fork in handlers")
{
    struct sigaction action = {.sa_handler = open_and_fork_in_handler, .sa_flags = SA_RESTART};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    covey_queue *queue;

    if (TEST_TSAN)
        test_skip("it does not fork in handlers");
    check_int(covey_queue_open(&queue, .items = 1), ==, 0);
    check_int(covey_queue_put(queue, "x", 1, 0), ==, 0);
    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    for (int i = 0; forked < 1000; i++) {
        if (i % 20 == 0)
            (void)ualarm(50 + (unsigned)i / 20 % 50, 0);
        check_int(covey_descriptor_put(queue, null, 0), ==, COVEY_EFULL);
    }
    (void)ualarm(0, 0);
    check_int(lost, ==, 0);
    check_int(close(null), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
}

/* A member, and a child that is none: it has not used covey. */
TEST(members_and_strangers_send_nonsense)
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    struct sockaddr_un address = find_socket();
    unsigned before = test_open_descriptors();
    pid_t stranger;
    int fd = -1;

    if (TEST_TSAN)
        test_skip("it cannot follow threads into a fork");
    stranger = child_fork(bother, &address);
    bother(&address);
    check_int(covey_descriptor_get(w->there, &fd, COVEY_FOREVER), ==, 0);
    check_int(close(fd), ==, 0);
    check_ends(end);
    test_reap(stranger, 0);
    while (test_open_descriptors() != before - 2) /* the copy, and the end */
        test_sleep_ms(1);
    free_ways(w);
}

TEST(a_socket_that_the_program_has_closed_is_made_again)
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    int fd = -1;

    if (TEST_TSAN)
        test_skip("to close what a thread uses is a race");
    for (int i = 3; i < 64; i++) {
        struct sockaddr_un address;
        socklen_t size = sizeof address;

        if (getsockname(i, (struct sockaddr *)&address, &size) == 0 && size == 8)
            (void)close(i);
    }
    (void)close(end);
    end = put_write_end(w->back);
    check_int(covey_descriptor_get(w->back, &fd, COVEY_FOREVER), ==, 0);
    check_int(close(fd), ==, 0);
    check_ends(end);
    free_ways(w);
}

TEST(waiting_for_a_descriptor_uses_no_time, .not_in_valgrind = "it counts context switches")
{
    struct ways *w = open_ways();
    int end = put_write_end(w->there);
    long before;
    int fd = -1;

    test_sleep_ms(50);
    before = test_status_of(getpid(), "voluntary_ctxt_switches");
    check_int(covey_descriptor_get(w->there, &fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    check_ends(end);
    check_int(test_status_of(getpid(), "voluntary_ctxt_switches"), <, before + 20);
    free_ways(w);
}
