/* SPDX-License-Identifier: MIT */
#include "proc/function.h"

#include "arena/family.h"
#include "base/atomic.h"
#include "base/error.h"
#include "os/module.h"

#include <string.h>

enum {
    OFFSET_BITS = 48
};

/* An entry of the list, in the arena. */
struct entry {
    unsigned char id[CV_BUILD_ID_MAX];
    char path[];
};

/* Where the modules are in this process, by their place in the list, with bit 0 set; 0: not looked
 * up yet. The same in the children of a fork. What is here stays loaded. */
static uintptr_t bases[CV_ROOT_COUNT];
static uint64_t bases_family; /* whose list: the family's inode */

static void forget_other_families(void)
{
    uint64_t now = cv_arena.memory.file.inode;

    if (cv_load_acquire(&bases_family) == now)
        return;
    for (unsigned i = 0; i < CV_ROOT_COUNT; i++)
        cv_store_relaxed(&bases[i], 0);
    cv_store_release(&bases_family, now);
}

static void remember(unsigned place, const struct cv_module *module)
{
    if (cv_load_relaxed(&bases[place]) != (module->base | 1)) {
        cv_module_keep(module);
        cv_store_relaxed(&bases[place], module->base | 1);
    }
}

static struct entry *entry_at(unsigned i)
{
    return (struct entry *)(uintptr_t)cv_load_acquire(&cv_arena.family->root[i]);
}

static struct entry *make_entry(const struct cv_module *module)
{
    size_t path_bytes = strlen(module->path) + 1;
    struct entry *e = cv_heap_alloc(sizeof *e + path_bytes, 1, (uint32_t)CV_OWNER_INTERNAL);

    if (e) {
        memcpy(e->id, module->id, sizeof e->id);
        memcpy(e->path, module->path, path_bytes);
    }
    return e;
}

static bool is_same(const struct entry *e, const struct cv_module *module)
{
    return strcmp(e->path, module->path) == 0 && memcmp(e->id, module->id, sizeof e->id) == 0;
}

/* The module's place in the list, where it is put if it is not there yet. */
static int list_module(const struct cv_module *module, unsigned *place)
{
    struct entry *mine = NULL;

    for (unsigned i = 0; i < CV_ROOT_COUNT; i++) {
        struct entry *e = entry_at(i);

        if (!e) {
            if (!mine && !(mine = make_entry(module)))
                return covey_error_code();
            if (cv_cas64(&cv_arena.family->root[i], 0, (uintptr_t)mine)) {
                *place = i;
                return 0;
            }
            e = entry_at(i);
        }
        if (is_same(e, module)) {
            if (mine)
                (void)cv_heap_free(mine);
            *place = i;
            return 0;
        }
    }
    if (mine)
        (void)cv_heap_free(mine);
    return cv_fail(COVEY_ELIMIT, "functions of more than %d modules", CV_ROOT_COUNT);
}

int cv_function_export(cv_any_function *function, uint64_t *number)
{
    uintptr_t address = (uintptr_t)function;
    struct cv_module module;
    unsigned place = 0;
    int r;

    if (!cv_module_at(address, &module))
        return cv_fail(COVEY_EINVAL,
            "function %p is in no loadable module: only what the program or a shared library "
            "contains can be called in another process",
            (void *)address);
    forget_other_families();
    r = list_module(&module, &place);
    if (r != 0)
        return r;
    remember(place, &module);
    *number = (uint64_t)(place + 1) << OFFSET_BITS | (address - module.base);
    return 0;
}

int cv_function_import(uint64_t number, cv_any_function **function)
{
    unsigned place = (unsigned)(number >> OFFSET_BITS) - 1;
    uintptr_t offset = number & ((UINT64_C(1) << OFFSET_BITS) - 1);
    struct entry *e = place < CV_ROOT_COUNT ? entry_at(place) : NULL;
    struct cv_module module;
    uintptr_t base;
    int r;

    if (!e)
        return cv_fail(
            COVEY_ECORRUPT, "no function has the number %#llx", (unsigned long long)number);
    forget_other_families();
    base = cv_load_relaxed(&bases[place]);
    if (!base) {
        r = cv_module_load(e->path, &module);
        if (r != 0)
            return r;
        if (!is_same(e, &module))
            return cv_fail(COVEY_EINVAL, "%s is another file here than where it was named",
                *e->path ? e->path : "the program");
        base = module.base;
        remember(place, &module);
    }
    *function = (cv_any_function *)((base & ~(uintptr_t)1) + offset);
    return 0;
}
