/* SPDX-License-Identifier: MIT */
/*
 * Handles: the addresses of this process's connections and listeners, which lie in private memory. What
 * a program passes is looked up here before it is read; so what is none is told apart, wherever it points.
 *
 * They stand in tables, each four times as large as the one before, in a window of a few words that the address
 * chooses: in the first table that has room there. A word is set and cleared by itself, and no table ever moves:
 * so there is no lock, nothing that a fork could find half done, and to look one up is to read a cache line or
 * two of each table. A child of a fork has its parent's, as it has the objects.
 */
#ifndef CV_HANDLES_H
#define CV_HANDLES_H

#include <stdbool.h>

enum cv_handle {
    CV_HANDLE_CONNECTION = 1,
    CV_HANDLE_LISTENER,
};

/* @object: from malloc(). 0 or COVEY_ENOMEM. */
int cv_handle_add(const void *object, enum cv_handle kind);

/* Nothing if it is not there. */
void cv_handle_remove(const void *object, enum cv_handle kind);

bool cv_handle_is(const void *object, enum cv_handle kind);

#endif
