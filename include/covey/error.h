/* SPDX-License-Identifier: MIT */
/**
 * covey/error.h - how covey says that something went wrong
 *
 * Every function that can fail returns 0 for success or one of the negative codes below, unless
 * its own description says otherwise (those that return a pointer return NULL). The failure also
 * leaves a sentence in the calling thread that names the value that was wrong; covey_error()
 * reads it. A failed call has changed nothing, unless its description says what it changed.
 */
#ifndef COVEY_ERROR_H
#define COVEY_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define COVEY_API __attribute__((visibility("default")))

/** codes - what a function returns when it fails */
enum {
    COVEY_EINVAL = -1,      /* an argument is wrong: NULL, out of range, not a covey object */
    COVEY_ENOMEM = -2,      /* the machine or the family's arena has no memory left */
    COVEY_ELIMIT = -3,      /* a limit is reached: descriptors, processes, members of the family */
    COVEY_ESYS = -4,        /* a system call failed in a way that has no code of its own */
    COVEY_ETIMEDOUT = -5,   /* the time given was over before it happened; but see the next two */
    COVEY_EEMPTY = -6,      /* nothing to get, within the time given */
    COVEY_EFULL = -7,       /* no room to put, within the time given */
    COVEY_ETOOBIG = -8,     /* the size does not fit: the item can never get in, the buffer is too
                               small for it, or it should have another size */
    COVEY_ECLOSED = -9,     /* the object is closed, or nobody holds its other end any more */
    COVEY_EDIED = -10,      /* a process died that was needed for this */
    COVEY_EOWNERDEAD = -11, /* a lock is acquired, but the holder before died holding it; a queue is
                               joined, but items are lost with processes that had got them */
    COVEY_ENOTHELD = -12,   /* released what is not held */
    COVEY_EINTR = -13,      /* a signal came and the interrupt hook asked to give up */
    COVEY_ESTATE = -14,     /* not possible in the state that the object is in */
    COVEY_ENOTOWNER = -15,  /* only the process that made the object may do this */
    COVEY_ETASK = -16,      /* the task's function itself returned an error */
    COVEY_EDEADLINE = -17,  /* the task ran past its deadline and its worker was killed */
    COVEY_ECORRUPT = -18,   /* in the arena, or received, is what covey never writes */
    COVEY_EDEADLK = -19,    /* to wait would be for ever: see covey_open() */
    COVEY_EBROKEN = -20,    /* the barrier is broken, or the connection, by half a message */
    COVEY_EAUTH = -21,      /* the other side has another key, or does not speak covey's protocol */
    COVEY_EREFUSED = -22,   /* nobody listens at that address */
};

/**
 * covey_error() - the sentence that the last failed call of this thread left
 *
 * Returns a string that is valid until the next failing covey call of the same thread; empty if
 * none has failed yet. Never NULL. Successful calls leave it as it is.
 */
COVEY_API const char *covey_error(void);

/**
 * covey_error_code() - the code of the last failed call of this thread, 0 if none has failed yet
 *
 * For functions that report failure by NULL.
 */
COVEY_API int covey_error_code(void);

/**
 * covey_strerror() - a code in words
 * @code: one of the COVEY_E* codes, or 0
 *
 * Returns a static string such as "COVEY_EFULL: no room to put"; never NULL.
 */
COVEY_API const char *covey_strerror(int code);

#ifdef __cplusplus
}
#endif

#endif
