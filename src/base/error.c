/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct cv_error last;

int cv_fail(int code, const char *format, ...)
{
    int saved_errno = errno;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(last.message, sizeof last.message, format, args);
    va_end(args);
    last.late.kind = NULL;
    last.code = code;
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
    char what[CV_ERROR_BYTES / 2];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    errno = error;
    (void)snprintf(last.message, sizeof last.message, "%s: %s", what, strerror(error));
    last.late.kind = NULL;
    last.code = code_of_errno(error);
    errno = error;
    return last.code;
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
    last.late.kind = kind;
    last.late.object = object;
    last.late.what = what;
    last.late.timeout_s = timeout_s;
    last.code = code;
    return code;
}

const char *covey_error(void)
{
    int saved_errno = errno;

    if (last.late.kind)
        (void)snprintf(last.message, sizeof last.message, "%s %p %s within %g s", last.late.kind,
            last.late.object, last.late.what, last.late.timeout_s);
    last.late.kind = NULL;
    errno = saved_errno;
    return last.message;
}

int covey_error_code(void)
{
    return last.code;
}

void cv_error_save(struct cv_error *error)
{
    *error = last;
}

void cv_error_restore(const struct cv_error *error)
{
    last = *error;
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
        return "COVEY_ETOOBIG: the size does not fit";
    case COVEY_ECLOSED:
        return "COVEY_ECLOSED: closed";
    case COVEY_EDIED:
        return "COVEY_EDIED: a process that was needed died";
    case COVEY_EOWNERDEAD:
        return "COVEY_EOWNERDEAD: done, but a process died holding the lock, or with items undone";
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
        return "COVEY_ECORRUPT: the arena, or what came, is corrupt";
    case COVEY_EDEADLK:
        return "COVEY_EDEADLK: to wait would be for ever";
    case COVEY_EBROKEN:
        return "COVEY_EBROKEN: the barrier or connection is broken";
    case COVEY_EAUTH:
        return "COVEY_EAUTH: the other side has another key, or does not speak covey's protocol";
    case COVEY_EREFUSED:
        return "COVEY_EREFUSED: nobody listens there";
    default:
        return "unknown code";
    }
}
