/* SPDX-License-Identifier: MIT */
/* Failing in a named way: one call leaves the sentence and returns the code. */
#ifndef CV_ERROR_H
#define CV_ERROR_H

#include <covey/error.h>

enum {
    CV_ERROR_BYTES = 320
};

/* Both return @code (or the code that fits errno), so that a failure reads `return cv_fail(...)`.
 */
int cv_fail(int code, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));
/* COVEY_EINVAL for @p, which should be a @kind ("queue"). */
int cv_fail_object(const void *p, const char *kind) __attribute__((cold));

/* "@kind @object @what within @timeout_s s". For what may fail again and again: the sentence is not made
 * before somebody asks for it. @kind and @what: literals. */
int cv_fail_late(int code, const char *kind, const void *object, const char *what, double timeout_s)
    __attribute__((cold));

/* The last failure of a thread. */
struct cv_error {
    int code;
    char message[CV_ERROR_BYTES];
    struct {              /* what the message has to be made of */
        const char *kind; /* NULL: it is made */
        const void *object;
        const char *what;
        double timeout_s;
    } late;
};

/* Around what may fail on the way to a success, which has to leave the last failure as it was. */
void cv_error_save(struct cv_error *error);
void cv_error_restore(const struct cv_error *error);

/* "a" or "an" */
const char *cv_article(const char *noun);
int cv_fail_errno(const char *format, ...) __attribute__((cold, format(printf, 1, 2)));

#endif
