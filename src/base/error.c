/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    MESSAGE_BYTES = 320
};

static _Thread_local int last_code;
static _Thread_local char last_message[MESSAGE_BYTES];

/* What last_message has to be made of. */
static _Thread_local struct {
    const char *kind; /* NULL: it is made */
    const void *object;
    const char *what;
    double timeout_s;
} late;

int cv_fail(int code, const char *format, ...)
{
    int saved_errno = errno;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last_message, sizeof last_message, format, args);
    va_end(args);
    late.kind = NULL;
    last_code = code;
    errno = saved_errno;
    return code;
}

static int code_of_errno(int error)
{
    switch (error) {
    case ENOMEM:
    case ENOSPC:
    case ENOBUFS:
        return COVEY_ENOMEM;
    case EMFILE:
    case ENFILE:
    case EAGAIN: /* fork and clone: too many processes or threads */
        return COVEY_ELIMIT;
    default:
        return COVEY_ESYS;
    }
}

/* strerror() is safe in threads for every errno that the kernel can give. */
int cv_fail_errno(const char *format, ...)
{
    int error = errno;
    char what[MESSAGE_BYTES / 2];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    errno = error;
    (void)snprintf(last_message, sizeof last_message, "%s: %s", what, strerror(error));
    late.kind = NULL;
    last_code = code_of_errno(error);
    errno = error;
    return last_code;
}

const char *cv_article(const char *noun)
{
    return strchr("aeior", noun[0]) ? "an" : "a"; /* an rlock */
}

int cv_fail_object(const void *p, const char *kind)
{
    if (!p)
        return cv_fail(COVEY_EINVAL, "%s is NULL", kind);
    return cv_fail(COVEY_EINVAL, "%p is not %s %s of this family: never made, destroyed or freed",
        p, cv_article(kind), kind);
}

int cv_fail_late(int code, const char *kind, const void *object, const char *what, double timeout_s)
{
    late.kind = kind;
    late.object = object;
    late.what = what;
    late.timeout_s = timeout_s;
    last_code = code;
    return code;
}

const char *covey_error(void)
{
    int saved_errno = errno;

    if (late.kind)
        (void)snprintf(last_message, sizeof last_message, "%s %p %s within %g s", late.kind,
            late.object, late.what, late.timeout_s);
    late.kind = NULL;
    errno = saved_errno;
    return last_message;
}

int covey_error_code(void)
{
    return last_code;
}

const char *covey_strerror(int code)
{
    switch (code) {
    case 0:
        return "success";
    case COVEY_EINVAL:
        return "COVEY_EINVAL: an argument is wrong";
    case COVEY_ENOMEM:
        return "COVEY_ENOMEM: no memory left";
    case COVEY_ELIMIT:
        return "COVEY_ELIMIT: a limit is reached";
    case COVEY_ESYS:
        return "COVEY_ESYS: a system call failed";
    case COVEY_ETIMEDOUT:
        return "COVEY_ETIMEDOUT: the time given is over";
    case COVEY_EEMPTY:
        return "COVEY_EEMPTY: nothing to get";
    case COVEY_EFULL:
        return "COVEY_EFULL: no room to put";
    case COVEY_ETOOBIG:
        return "COVEY_ETOOBIG: too large";
    case COVEY_ECLOSED:
        return "COVEY_ECLOSED: closed";
    case COVEY_EDIED:
        return "COVEY_EDIED: a process that was needed died";
    case COVEY_EOWNERDEAD:
        return "COVEY_EOWNERDEAD: acquired, but the holder before died";
    case COVEY_ENOTHELD:
        return "COVEY_ENOTHELD: not held";
    case COVEY_EINTR:
        return "COVEY_EINTR: interrupted";
    case COVEY_ESTATE:
        return "COVEY_ESTATE: not possible in this state";
    case COVEY_ENOTOWNER:
        return "COVEY_ENOTOWNER: only the process that made it may do this";
    case COVEY_ETASK:
        return "COVEY_ETASK: the task returned an error";
    case COVEY_EDEADLINE:
        return "COVEY_EDEADLINE: the task ran past its deadline";
    case COVEY_ECORRUPT:
        return "COVEY_ECORRUPT: the arena is corrupt";
    case COVEY_EDEADLK:
        return "COVEY_EDEADLK: to wait would be for ever";
    case COVEY_EBROKEN:
        return "COVEY_EBROKEN: the barrier is broken";
    default:
        return "unknown code";
    }
}
