/* SPDX-License-Identifier: MIT */
#ifndef TLS_PLAIN_H
#define TLS_PLAIN_H

#include <stddef.h>

/* After so many bytes the other side has ended in order; SIZE_MAX: it never does. */
extern size_t tls_plain_end;

#endif
