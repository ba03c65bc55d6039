/* SPDX-License-Identifier: MIT */
/*
 * What can fail of all that covey calls, with errnos that the call can really give as it is used
 * (os/fault.h). The build puts this before each source file of the library; none includes it.
 *
 * Missing is what cannot fail as it is used: what only reads something of this process or sets it
 * (fstat, sigaction, clock_gettime, pthread_mutex_lock ...), and waking sleepers. No lie is told
 * that covey has to believe: ESRCH or ECHILD for a process that lives.
 */
#ifndef CV_FAULT_CALLS_H
#define CV_FAULT_CALLS_H

#include "os/fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>

#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Memory. A name within its own macro is the function. */
#define malloc(...)    CV_MAY_FAIL(malloc(__VA_ARGS__), NULL, ENOMEM)
#define calloc(...)    CV_MAY_FAIL(calloc(__VA_ARGS__), NULL, ENOMEM)
#define realloc(...)   CV_MAY_FAIL(realloc(__VA_ARGS__), NULL, ENOMEM)
#define mmap(...)      CV_MAY_FAIL(mmap(__VA_ARGS__), MAP_FAILED, ENOMEM, EAGAIN)
#define munmap(...)    CV_MAY_FAIL(munmap(__VA_ARGS__), -1, ENOMEM)
#define mprotect(...)  CV_MAY_FAIL(mprotect(__VA_ARGS__), -1, ENOMEM)
#define madvise(...)   CV_MAY_FAIL(madvise(__VA_ARGS__), -1, ENOMEM, EINVAL)
#define fallocate(...) CV_MAY_FAIL(fallocate(__VA_ARGS__), -1, ENOSPC, ENOMEM, EINTR)
#define ftruncate(...) CV_MAY_FAIL(ftruncate(__VA_ARGS__), -1, EFBIG, EPERM)

/* Descriptors and files. On Linux close() has closed also when it says that it failed. */
#define open(...)     CV_MAY_FAIL(open(__VA_ARGS__), -1, EMFILE, ENFILE, ENOENT)
#define close(fd)     CV_MAY_FAIL(close(fd), (close(fd), errno = EIO, -1), EIO)
#define read(...)     CV_MAY_FAIL(read(__VA_ARGS__), -1, EINTR, ENOMEM)
#define write(...)    CV_MAY_FAIL(write(__VA_ARGS__), -1, EINTR, ENOSPC)
#define pread(...)    CV_MAY_FAIL(pread(__VA_ARGS__), -1, ENOMEM)
#define pwrite(...)   CV_MAY_FAIL(pwrite(__VA_ARGS__), -1, ENOSPC)
#define stat(...)     CV_MAY_FAIL(stat(__VA_ARGS__), -1, ENOENT, ENOMEM)
#define readlink(...) CV_MAY_FAIL(readlink(__VA_ARGS__), -1, ENOENT, ENOMEM)
#define fcntl(fd, ...)                                                                             \
    CV_MAY_FAIL(fcntl(fd, __VA_ARGS__), -1, CV_FAULT_FCNTL_(CV_FAULT_FIRST_(__VA_ARGS__, 0)))
#define dup3(...)       CV_MAY_FAIL(dup3(__VA_ARGS__), -1, EINTR, EBUSY)
#define signalfd(...)   CV_MAY_FAIL(signalfd(__VA_ARGS__), -1, EMFILE, ENFILE, ENOMEM)
#define socketpair(...) CV_MAY_FAIL(socketpair(__VA_ARGS__), -1, EMFILE, ENFILE, ENOBUFS)
#define send(...)       CV_MAY_FAIL(send(__VA_ARGS__), -1, EINTR, ENOBUFS)
#define recv(...)       CV_MAY_FAIL(recv(__VA_ARGS__), -1, EINTR, ENOMEM)
#define sendmsg(...)    CV_MAY_FAIL(sendmsg(__VA_ARGS__), -1, EINTR, ENOBUFS, ETOOMANYREFS)
#define recvmsg(...)    CV_MAY_FAIL(recvmsg(__VA_ARGS__), -1, EINTR, ENOMEM)
#define getrandom(...)  CV_MAY_FAIL(getrandom(__VA_ARGS__), -1, ENOSYS)
#define poll(...)       CV_MAY_FAIL(poll(__VA_ARGS__), -1, EINTR, ENOMEM)
#define ppoll(...)      CV_MAY_FAIL(ppoll(__VA_ARGS__), -1, EINTR, ENOMEM)
#define pipe2(...)      CV_MAY_FAIL(pipe2(__VA_ARGS__), -1, EMFILE, ENFILE)
#define opendir(...)    CV_MAY_FAIL(opendir(__VA_ARGS__), NULL, EMFILE, ENOMEM)
#define fopen(...)      CV_MAY_FAIL(fopen(__VA_ARGS__), NULL, ENOENT, EMFILE, ENOMEM)
/* To write to a stream that can only be read sets its error flag. */
#define fgets(s, size, file)                                                                       \
    CV_MAY_FAIL(fgets(s, size, file), (fputc('!', file), errno = ENOMEM, NULL), ENOMEM)

/* Sockets, and what watches them. */
#define socket(...)         CV_MAY_FAIL(socket(__VA_ARGS__), -1, EMFILE, ENFILE, ENOBUFS)
#define bind(...)           CV_MAY_FAIL(bind(__VA_ARGS__), -1, ENOMEM, EACCES)
#define listen(...)         CV_MAY_FAIL(listen(__VA_ARGS__), -1, ENOMEM)
#define accept4(...)        CV_MAY_FAIL(accept4(__VA_ARGS__), -1, EMFILE, ENFILE, ENOBUFS, EINTR)
#define connect(...)        CV_MAY_FAIL(connect(__VA_ARGS__), -1, ENOBUFS, EADDRNOTAVAIL)
#define getsockname(...)    CV_MAY_FAIL(getsockname(__VA_ARGS__), -1, ENOBUFS)
#define getpeername(...)    CV_MAY_FAIL(getpeername(__VA_ARGS__), -1, ENOBUFS)
#define chmod(...)          CV_MAY_FAIL(chmod(__VA_ARGS__), -1, EPERM, ENOMEM)
#define unlink(...)         CV_MAY_FAIL(unlink(__VA_ARGS__), -1, EROFS)
#define flock(...)          CV_MAY_FAIL(flock(__VA_ARGS__), -1, EINTR, ENOLCK)
#define epoll_create1(...)  CV_MAY_FAIL(epoll_create1(__VA_ARGS__), -1, EMFILE, ENFILE, ENOMEM)
#define epoll_wait(...)     CV_MAY_FAIL(epoll_wait(__VA_ARGS__), -1, EINTR)
#define timerfd_create(...) CV_MAY_FAIL(timerfd_create(__VA_ARGS__), -1, EMFILE, ENFILE, ENOMEM)
/* Only what adds one needs memory. */
#define epoll_ctl(epoll, operation, ...)                                                           \
    CV_MAY_FAIL(epoll_ctl(epoll, operation, __VA_ARGS__), -1,                                      \
        (operation) == EPOLL_CTL_ADD ? ENOMEM : 0, ENOSPC)
#define getaddrinfo(...)                                                                           \
    CV_MAY_FAIL(getaddrinfo(__VA_ARGS__), errno == ENOMEM ? EAI_MEMORY : EAI_SYSTEM, ENOMEM, EMFILE)

/* Processes and threads. posix_spawn and pthread_* return the errno. */
#define fork()     CV_MAY_FAIL(fork(), -1, EAGAIN, ENOMEM)
#define execv(...) CV_MAY_FAIL(execv(__VA_ARGS__), -1, EAGAIN, ENOMEM)
#define kill(...)  CV_MAY_FAIL(kill(__VA_ARGS__), -1, EPERM)
/* By descriptor: old kernels do not know how. */
#define waitid(type, ...)      CV_MAY_FAIL(waitid(type, __VA_ARGS__), -1, (type) == P_PID ? 0 : EINVAL)
#define prctl(...)             CV_MAY_FAIL(prctl(__VA_ARGS__), -1, EPERM)
#define nanosleep(...)         CV_MAY_FAIL(nanosleep(__VA_ARGS__), -1, EINTR)
#define sched_getaffinity(...) CV_MAY_FAIL(sched_getaffinity(__VA_ARGS__), -1, EINVAL, EPERM)
#define timer_create(...)      CV_MAY_FAIL(timer_create(__VA_ARGS__), -1, EAGAIN, ENOMEM)
#define posix_spawn(...)       CV_MAY_FAIL(posix_spawn(__VA_ARGS__), errno, EAGAIN, ENOMEM, ENOENT)
#define posix_spawn_file_actions_init(...)                                                         \
    CV_MAY_FAIL(posix_spawn_file_actions_init(__VA_ARGS__), errno, ENOMEM)
#define posix_spawn_file_actions_adddup2(...)                                                      \
    CV_MAY_FAIL(posix_spawn_file_actions_adddup2(__VA_ARGS__), errno, ENOMEM)
#define pthread_create(...)      CV_MAY_FAIL(pthread_create(__VA_ARGS__), EAGAIN, EAGAIN)
#define pthread_atfork(...)      CV_MAY_FAIL(pthread_atfork(__VA_ARGS__), errno, ENOMEM)
#define pthread_key_create(...)  CV_MAY_FAIL(pthread_key_create(__VA_ARGS__), errno, EAGAIN, ENOMEM)
#define pthread_setspecific(...) CV_MAY_FAIL(pthread_setspecific(__VA_ARGS__), errno, ENOMEM)
#define pthread_mutex_init(...)  CV_MAY_FAIL(pthread_mutex_init(__VA_ARGS__), errno, ENOMEM)
#define dlopen(path, mode)       CV_MAY_FAIL(dlopen(path, mode), dlopen("/", mode), ENOMEM)

/* System calls that are made by number: the table stands in fault.c. */
#define syscall(...)                                                                               \
    (cv_fault_syscall(#__VA_ARGS__, __func__, CV_FAULT_FIRST_(__VA_ARGS__, 0))                     \
            ? -1                                                                                   \
            : syscall(__VA_ARGS__))

#define CV_FAULT_FIRST_(first, ...) (first)
#define CV_FAULT_FCNTL_(command)                                                                   \
    ((command) == F_ADD_SEALS ? EPERM : (command) == F_DUPFD_CLOEXEC ? EMFILE : 0)

#endif
