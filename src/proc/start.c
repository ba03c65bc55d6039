/* SPDX-License-Identifier: MIT */
#include "proc/start.h"

#include "arena/family.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "base/options.h"
#include "msg/pipe.h"
#include "os/module.h"
#include "os/pid.h"
#include "os/spawn.h"
#include "os/thread.h"
#include "proc/function.h"
#include "sync/wait.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EXIT_NO_START = 127,
    IMAGE_TRIES = 8,  /* address space layouts that a fresh image may try */
    SERVER_TRIES = 5, /* fork servers that may be killed under one request */
};

#define ARGUMENT_MAX ((size_t)1 << 30)
#define CHILD_FLAG   "--covey-child"

/* Letters of a fresh image's flags. */
#define FLAG_SERVER       'S' /* be the fork server; its socket's number follows */
#define FLAG_WATCH_KERNEL 'K'

/* How a daemon learns that its parent has ended. */
enum watch_parent {
    WATCH_THREAD, /* by a thread (os/thread.h) */
    WATCH_KERNEL, /* by the kernel: the child of the parent's first thread */
};

struct arguments {
    uint64_t function; /* proc/function.h */
    uint64_t size;
    unsigned char bytes[] __attribute__((aligned(16)));
};

static enum covey_method default_method = COVEY_FORK;
static const char *program; /* argv[0], once covey_main() was called */

int covey_set_start_method(enum covey_method method)
{
    if (method < COVEY_FORK || method > COVEY_FORKSERVER)
        return cv_fail(COVEY_EINVAL, "%d is not a start method", (int)method);
    cv_store_relaxed(&default_method, method);
    return 0;
}

enum covey_method covey_start_method(void)
{
    return cv_load_relaxed(&default_method);
}

/* In the child ******************************************************************************* */

void cv_start_fail(covey_process *p)
{
    (void)snprintf(p->message, sizeof p->message, "%s", covey_error());
    cv_store_release(&p->failure, covey_error_code());
    _exit(EXIT_NO_START);
}

/*
 * The kernel's own way watches the *thread* that made this process, is gone after setuid(), and
 * misses a parent that has died already; a thread with a descriptor of the parent has none of these
 * faults, but is a thread.
 */
static void end_with_parent(const covey_process *parent, enum watch_parent watch)
{
    struct cv_descriptor pidfd;

    if (watch == WATCH_KERNEL && cv_thread_end_with_maker()) {
        if (getppid() != (pid_t)parent->pid)
            _exit(EXIT_NO_START);
        return;
    }
    (void)cv_pid_open((pid_t)parent->pid, &pidfd); /* without a descriptor, the thread polls */
    if (cv_member_is_dead(parent->tag, 0))
        _exit(EXIT_NO_START);
    if (cv_thread_end_with(&pidfd, (pid_t)parent->pid) != 0)
        cv_start_fail(cv_process_record(cv_self.tag));
}

/* A copy of the parent's record, for the parent's slot may be used again one day. */
static void remember_parent(uint64_t tag)
{
    struct cv_own *own = cv_process_own();

    if (tag)
        memcpy(&own->parent, cv_process_record(tag), sizeof own->parent);
}

static covey_process *come_to_life(uint64_t tag, enum watch_parent watch)
{
    covey_process *p = cv_process_record(tag);

    if (cv_member_become(tag) != 0)
        _exit(EXIT_NO_START); /* the parent is dead: nobody to tell */
    cv_store_relaxed(&p->pid, (uint32_t)getpid());
    cv_process_name(p, getpid());
    remember_parent(p->parent);
    if (p->daemon && CV_RECOVERS(process_end_with_parent))
        end_with_parent(&cv_process_own()->parent, watch);
    return p;
}

/* An argument of this process's function, or of a parent's that has forked it. */
struct copy {
    struct copy *before;
    unsigned char bytes[] __attribute__((aligned(16)));
};

static struct copy *copies; /* kept to the end: here leak checkers find them */

/* The ends of pipes in it are this process's own, also if its parent dies before it can say so. */
static void *copy_argument(covey_process *p, const void *argument, size_t size)
{
    struct copy *copy;

    if (!size)
        return NULL;
    copy = malloc(sizeof *copy + size);
    if (!copy) {
        (void)cv_fail(COVEY_ENOMEM, "no memory for its argument of %zu bytes", size);
        cv_start_fail(p);
    }
    copy->before = copies;
    copies = copy;
    cv_pipe_hand_over(p->tag, argument, size);
    return memcpy(copy->bytes, argument, size);
}

/* Unless the function has left the family. */
static void note_exit(covey_process *p, uint64_t tag, int code)
{
    if (cv_self.tag != tag)
        return;
    cv_store_release(&p->own_exit, CV_RETURNED | (unsigned)(code & 0xff));
    cv_member_end_orderly();
}

/* Of a child that shares its image with the process that has forked it. */
__attribute__((noreturn)) static void run_and_exit(
    covey_process *p, const struct covey_process_options *options)
{
    uint64_t tag = p->tag;
    int code = options->function((void *)(uintptr_t)options->argument);

    /* Not fflush(NULL): other streams may hold what the parent had not yet written when it forked.
     */
    if (__fpending(stdout))
        (void)fflush(stdout);
    if (__fpending(stderr))
        (void)fflush(stderr);
    note_exit(p, tag, code);
    _exit(code & 0xff);
}

__attribute__((noreturn)) static void be_forked(
    uint64_t tag, enum watch_parent watch, const struct covey_process_options *options)
{
    struct covey_process_options mine = *options;
    covey_process *p = come_to_life(tag, watch);

    mine.argument = copy_argument(p, options->argument, options->argument_size);
    run_and_exit(p, &mine);
}

/* In the parent: fork ************************************************************************ */

static enum watch_parent watch_of_this_thread(void)
{
    return cv_thread_is_first() ? WATCH_KERNEL : WATCH_THREAD;
}

/* As fork(); the child is a member already. */
static pid_t fork_member(covey_process *p)
{
    pid_t pid;
    int r = cv_descriptor_check_room(&cv_arena.memory.file); /* before there is a child */

    if (r != 0)
        return r;
    (void)fflush(stdout);
    (void)fflush(stderr);
    pid = fork();
    if (pid < 0)
        return cv_fail_errno("cannot fork");
    if (pid > 0)
        cv_process_set_started(p, pid);
    return pid;
}

static int start_by_fork(covey_process *p, const struct covey_process_options *options)
{
    enum watch_parent watch = watch_of_this_thread();
    uint64_t tag = p->tag;
    pid_t pid = fork_member(p);

    if (pid == 0)
        be_forked(tag, watch, options);
    return pid < 0 ? (int)pid : 0;
}

/* In the parent: a fresh image *************************************************************** */

int cv_start_write_arguments(covey_process *p, const struct covey_process_options *options)
{
    struct arguments *a;
    uint64_t function;
    int r = cv_function_export((cv_any_function *)options->function, &function);

    if (r != 0)
        return r;
    a = cv_heap_alloc(sizeof *a + options->argument_size, 16, cv_tag_short(cv_self.tag));
    if (!a)
        return covey_error_code();
    a->function = function;
    a->size = options->argument_size;
    if (options->argument_size)
        memcpy(a->bytes, options->argument, options->argument_size);
    p->arguments = (uintptr_t)a;
    (void)cv_heap_give(a, cv_tag_short(cv_self.tag), cv_tag_short(p->tag));
    return 0;
}

int cv_start_image(covey_process *p, int socket)
{
    const struct cv_memory *memory = &cv_arena.memory;
    char what[160];
    char flags[24] = "";
    char name[] = CHILD_FLAG;
    char *argv[] = {(char *)(uintptr_t)program, name, what, NULL};
    int fds[2] = {memory->file.fd, socket};
    pid_t pid;
    int r = cv_descriptor_check_room(&memory->file);

    if (socket >= 0)
        (void)snprintf(flags, sizeof flags, "%c%d", FLAG_SERVER, socket);
    if (watch_of_this_thread() == WATCH_KERNEL)
        flags[strlen(flags)] = FLAG_WATCH_KERNEL;

    if (r == 0)
        r = cv_memory_check(memory);
    if (r != 0)
        return r;
    (void)snprintf(what, sizeof what, "%d:%" PRIxPTR ":%zx:%" PRIx64 ":%d:%s", memory->file.fd,
        (uintptr_t)memory->base, memory->size, p->tag, IMAGE_TRIES, flags);
    r = cv_spawn_self(argv, fds, socket >= 0 ? 2 : 1, &pid);
    if (r == 0)
        cv_process_set_started(p, pid);
    return r;
}

static int start_by_spawn(covey_process *p, const struct covey_process_options *options)
{
    int r = cv_start_write_arguments(p, options);

    return r != 0 ? r : cv_start_image(p, -1);
}

static int start_by_server(covey_process *p, const struct covey_process_options *options)
{
    int r = cv_start_write_arguments(p, options);

    return r != 0 ? r : cv_server_start(p);
}

/* A fresh image ****************************************************************************** */

/* Takes the block over: the copy is the child's own memory. */
static void take_arguments(covey_process *p, struct covey_process_options *options)
{
    struct arguments *a = (struct arguments *)(uintptr_t)p->arguments;

    if (cv_function_import(a->function, (cv_any_function **)&options->function) != 0)
        cv_start_fail(p);
    options->argument = copy_argument(p, a->bytes, a->size);
    options->argument_size = a->size;
    p->arguments = 0;
    (void)cv_heap_free(a);
}

void cv_start_be_served(uint64_t tag)
{
    struct covey_process_options options = {0};
    covey_process *p = come_to_life(tag, WATCH_THREAD);

    take_arguments(p, &options);
    run_and_exit(p, &options);
}

/* Writes into the parent's record without a mapping: there is none. */
static void tell_failure(int fd, uint64_t tag)
{
    struct cv_family family;
    covey_process p;
    off_t offset;

    if (pread(fd, &family, sizeof family, 0) != (ssize_t)sizeof family)
        return;
    offset = (off_t)(family.members_offset + cv_tag_slot(tag) * sizeof(struct cv_member) +
                     offsetof(struct cv_member, room));
    if (pread(fd, &p, sizeof p, offset) != (ssize_t)sizeof p || p.tag != tag)
        return; /* the parent is dead, and the slot is another's */
    (void)snprintf(p.message, sizeof p.message, "%s", covey_error());
    p.failure = covey_error_code();
    if (pwrite(fd, p.message, sizeof p.message, offset + (off_t)offsetof(covey_process, message)) >
        0)
        (void)pwrite(
            fd, &p.failure, sizeof p.failure, offset + (off_t)offsetof(covey_process, failure));
}

/* Something lies where the arena must go: another layout of the address space may be luckier. */
static void try_again(char **argv, int tries)
{
    char *colon = strrchr(argv[2], ':');
    char name[CV_MODULE_PATH_MAX];
    char what[160];
    char *again[] = {argv[0], argv[1], what, NULL};

    while (colon > argv[2] && colon[-1] != ':')
        colon--;
    (void)snprintf(what, sizeof what, "%.*s%d%s", (int)(colon - argv[2]), argv[2], tries - 1,
        strrchr(argv[2], ':'));
    (void)execv(cv_module_program(name), again);
}

__attribute__((noreturn)) static void be_image(char **argv)
{
    struct covey_process_options options = {0};
    enum watch_parent watch = WATCH_THREAD;
    char flags[32] = "";
    uintptr_t base;
    uint64_t tag;
    size_t size;
    int tries;
    int fd;
    covey_process *p;
    int code;

    if (sscanf(argv[2], "%d:%" SCNxPTR ":%zx:%" SCNx64 ":%d:%31s", &fd, &base, &size, &tag, &tries,
            flags) < 5) {
        (void)fprintf(stderr, "%s: \"%s\" is for covey's own use\n", argv[0], argv[1]);
        exit(EXIT_NO_START);
    }
    if (cv_family_attach(fd, (char *)base, size) != 0) {
        if (tries > 1)
            try_again(argv, tries);
        tell_failure(fd, tag); /* which is open still, mapped or not */
        exit(EXIT_NO_START);
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (strchr(flags, FLAG_WATCH_KERNEL))
        watch = WATCH_KERNEL;
    p = come_to_life(tag, watch);
    if (flags[0] == FLAG_SERVER)
        cv_server_main((int)strtol(flags + 1, NULL, 10));
    take_arguments(p, &options);
    code = options.function((void *)(uintptr_t)options.argument);
    note_exit(p, tag, code);
    exit(code & 0xff);
}

void covey_main(int argc, char **argv)
{
    program = argc > 0 ? argv[0] : "covey";
    if (argc == 3 && strcmp(argv[1], CHILD_FLAG) == 0)
        be_image(argv);
}

/* Public ************************************************************************************* */

static int check_options(struct covey_process_options *o)
{
    if (!o->function)
        return cv_fail(COVEY_EINVAL, "function is NULL");
    if (!o->argument != !o->argument_size)
        return cv_fail(COVEY_EINVAL, "argument is %s, with a size of %zu bytes",
            o->argument ? "given" : "NULL", o->argument_size);
    if (o->argument_size > ARGUMENT_MAX)
        return cv_fail(
            COVEY_ETOOBIG, "an argument of %zu bytes: at most %zu", o->argument_size, ARGUMENT_MAX);
    if (o->name && strlen(o->name) > COVEY_NAME_MAX)
        return cv_fail(
            COVEY_EINVAL, "the name \"%.80s\" has more than %d bytes", o->name, COVEY_NAME_MAX);
    if (o->method == COVEY_DEFAULT_METHOD)
        o->method = covey_start_method();
    if (o->method < COVEY_FORK || o->method > COVEY_FORKSERVER)
        return cv_fail(COVEY_EINVAL, "%d is not a start method", (int)o->method);
    if (o->method != COVEY_FORK && !program)
        return cv_fail(
            COVEY_ESTATE, "spawn and forkserver need covey_main(argc, argv) at the top of main()");
    return 0;
}

static int start_by(covey_process *p, const struct covey_process_options *options)
{
    switch (options->method) {
    case COVEY_SPAWN:
        return start_by_spawn(p, options);
    case COVEY_FORKSERVER:
        return start_by_server(p, options);
    default:
        return start_by_fork(p, options);
    }
}

static int start_once(const struct covey_process_options *options)
{
    covey_process *p;
    int r = cv_process_prepare(options, &p);

    if (r != 0)
        return r;
    r = cv_pipe_expect(p->tag, options->argument, options->argument_size);
    if (r == 0)
        r = start_by(p, options);
    if (r != 0) {
        cv_pipe_withdraw(p->tag, options->argument, options->argument_size);
        cv_process_cancel(p);
        return r;
    }
    cv_pipe_hand_over(p->tag, options->argument, options->argument_size);
    if (options->process)
        *options->process = p;
    else
        cv_process_detach(p);
    return 0;
}

int covey_process_start_with(const struct covey_process_options *options)
{
    struct covey_process_options o;
    int r = cv_options_read(&o, sizeof o, options, "covey_process_options");
    int tries = 0;

    if (r == 0)
        r = check_options(&o);
    if (r == 0)
        r = cv_enter();
    if (r != 0)
        return r;
    cv_process_reap_detached();
    do {
        r = start_once(&o);
    } while (CV_RECOVERS(server_retry) && r == COVEY_EDIED && o.method == COVEY_FORKSERVER &&
             ++tries < SERVER_TRIES);
    return r;
}

pid_t covey_fork(void)
{
    struct covey_process_options options = {.method = COVEY_FORK};
    covey_process *p;
    uint64_t tag;
    pid_t pid;
    int r = cv_enter();

    if (r != 0)
        return r;
    cv_process_reap_detached();
    r = cv_process_prepare(&options, &p);
    if (r != 0)
        return r;
    tag = p->tag;
    pid = fork_member(p);
    if (pid == 0)
        (void)come_to_life(tag, WATCH_THREAD);
    else if (pid < 0)
        cv_process_cancel(p);
    else
        cv_process_detach(p);
    return pid;
}
