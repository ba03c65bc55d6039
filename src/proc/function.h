/* SPDX-License-Identifier: MIT */
/*
 * Functions that travel: a number that names the same function in every member.
 *
 * In a fresh program image everything lies at another address, so a function goes as the module
 * (the program or a shared library) and the offset into it. The modules that have been named so far
 * are listed in the family's header; an entry is set once, by compare-exchange, and never changes.
 * A kill between making an entry's block and setting the entry leaves a block that nobody uses,
 * until the family ends.
 */
#ifndef CV_FUNCTION_H
#define CV_FUNCTION_H

#include <stdint.h>

typedef void cv_any_function(void);

/* Never 0 on success. COVEY_EINVAL when @function lies in no module. */
int cv_function_export(cv_any_function *function, uint64_t *number);

/* COVEY_EINVAL when its module cannot be loaded, or is not the same file as there. */
int cv_function_import(uint64_t number, cv_any_function **function);

#endif
