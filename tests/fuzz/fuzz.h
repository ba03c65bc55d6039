/* SPDX-License-Identifier: MIT */
/* What the targets have in common. Each is a program of libFuzzer: bytes in, and nothing may be false. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define fuzz_check(condition) ((condition) ? (void)0 : __builtin_trap())

/* In memory of its own, with @zeros behind it; to be freed. */
static inline void *fuzz_copy(const uint8_t *bytes, size_t size, size_t zeros)
{
    uint8_t *copy = calloc(1, size + zeros + !(size + zeros));

    fuzz_check(copy != NULL);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

#endif
