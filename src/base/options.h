/* SPDX-License-Identifier: MIT */
/*
 * Option structs that may grow. The first field is the size that the caller was compiled with, so
 * programs and libraries of different versions understand each other.
 */
#ifndef CV_OPTIONS_H
#define CV_OPTIONS_H

#include <stddef.h>

/*
 * Copies @given into @known of @known_size bytes, with zero where @given ends earlier. COVEY_EINVAL if
 * @given is NULL, its size is not set, or it sets fields that are not known here.
 */
int cv_options_read(void *known, size_t known_size, const void *given, const char *name);

#endif
