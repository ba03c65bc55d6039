/* SPDX-License-Identifier: MIT */
/* Addresses as text: what can be read is the same when it is written and read again. */
#include "fuzz.h"

#include "base/address.h"

#include <covey.h>

#include <string.h>

static void check_read(const struct cv_address *a)
{
    char text[CV_ADDRESS_TEXT_MAX];
    struct cv_address again;

    fuzz_check(memchr(a->host, 0, sizeof a->host) && memchr(a->path, 0, sizeof a->path));
    fuzz_check((a->kind == CV_ADDRESS_TCP) == (a->host[0] != 0));
    fuzz_check((a->kind == CV_ADDRESS_TCP) == (a->path[0] == 0));
    cv_address_write(a, text);
    fuzz_check(cv_address_read(&again, text) == 0);
    fuzz_check(memcmp(a, &again, sizeof again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = fuzz_copy(bytes, size, 1); /* with a 0 behind it, and nothing after that */
    struct cv_address address;
    int r = cv_address_read(&address, text);

    if (r == 0)
        check_read(&address);
    else
        fuzz_check(r == COVEY_EINVAL && covey_error()[0] != 0);
    free(text);
    return 0;
}
