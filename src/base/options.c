/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include "base/error.h"

#include <string.h>

int cv_options_read(void *known, size_t known_size, const void *given, const char *name)
{
    size_t size = 0;

    memset(known, 0, known_size);
    if (!given)
        return cv_fail(COVEY_EINVAL, "options is NULL: it has to be a struct %s", name);
    memcpy(&size, given, sizeof size);
    if (size < sizeof size)
        return cv_fail(COVEY_EINVAL, "the field size of struct %s is %zu: not set", name, size);
    for (size_t i = known_size; i < size; i++) {
        if (((const char *)given)[i])
            return cv_fail(COVEY_EINVAL,
                "struct %s has %zu bytes; this version of covey knows %zu and not what is set "
                "behind them",
                name, size, known_size);
    }
    memcpy(known, given, size < known_size ? size : known_size);
    return 0;
}
