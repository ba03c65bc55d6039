/* SPDX-License-Identifier: MIT */
#include "msg/handles.h"

#include "base/atomic.h"
#include "base/error.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    WINDOW = 8,
    WINDOWS = 8, /* of the first table */
    TABLES = 12,
    KIND_MASK = 3,
};

struct window {
    uint64_t word[WINDOW]; /* an address, and the kind in bits that it has not; 0: free */
};

static struct window first[WINDOWS];
static struct window *tables[TABLES] = {first}; /* made as needed, and kept */

static uint64_t word_for(const void *object, enum cv_handle kind)
{
    return (uint64_t)(uintptr_t)object | kind;
}

static struct window *window_of(unsigned i, struct window *table, uint64_t word)
{
    return &table[((word >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 32) %
                  ((uint64_t)WINDOWS << 2 * i)];
}

static bool replace(struct window *w, uint64_t before, uint64_t after)
{
    for (int i = 0; i < WINDOW; i++) {
        if (cv_load_relaxed(&w->word[i]) == before && cv_cas64(&w->word[i], before, after))
            return true;
    }
    return false;
}

/* Another thread may be faster. */
static struct window *make_table(unsigned i)
{
    struct window *none = NULL;
    struct window *table = calloc((size_t)WINDOWS << 2 * i, sizeof *table);

    if (!table || cv_cas(&tables[i], &none, table))
        return table;
    free(table);
    return none;
}

int cv_handle_add(const void *object, enum cv_handle kind)
{
    uint64_t word = word_for(object, kind);

    for (unsigned i = 0; i < TABLES; i++) {
        struct window *table = cv_load_acquire(&tables[i]);

        if (!table)
            table = make_table(i);
        if (!table)
            break;
        if (replace(window_of(i, table, word), 0, word))
            return 0;
    }
    return cv_fail(COVEY_ENOMEM, "no memory for a list of what this process has open");
}

void cv_handle_remove(const void *object, enum cv_handle kind)
{
    uint64_t word = word_for(object, kind);

    for (unsigned i = 0; i < TABLES; i++) {
        struct window *table = cv_load_acquire(&tables[i]);

        if (table && replace(window_of(i, table, word), word, 0))
            return;
    }
}

bool cv_handle_is(const void *object, enum cv_handle kind)
{
    uint64_t word = word_for(object, kind);

    if ((uintptr_t)object & KIND_MASK)
        return false;
    for (unsigned i = 0; i < TABLES; i++) {
        struct window *table = cv_load_acquire(&tables[i]);

        for (int j = 0; table && j < WINDOW; j++) {
            if (cv_load_acquire(&window_of(i, table, word)->word[j]) == word)
                return true;
        }
    }
    return false;
}
