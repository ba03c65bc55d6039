/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <covey.h>

#include <pthread.h>
#include <stddef.h>
#include <string.h>

TEST(every_code_has_words_of_its_own)
{
    int last = 0;

    while (strcmp(covey_strerror(last - 1), "unknown code") != 0)
        last--;
    check_int(last, <=, COVEY_EREFUSED);
    for (int a = last; a <= 0; a++) {
        check(strlen(covey_strerror(a)) > 4);
        for (int b = a + 1; b <= 0; b++)
            check(strcmp(covey_strerror(a), covey_strerror(b)) != 0);
    }
    check_str(covey_strerror(COVEY_ETOOBIG), "COVEY_ETOOBIG: the size does not fit");
    check_has(covey_strerror(COVEY_EOWNERDEAD), "a process died holding the lock");
    check_str(covey_strerror(1), "unknown code");
    check_str(covey_strerror(-1000), "unknown code");
}

TEST(a_failure_leaves_a_sentence_with_the_value)
{
    check_str(covey_error(), "");
    check_int(covey_error_code(), ==, 0);
    check(covey_alloc_aligned(48, 8) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
    check_has(covey_error(), "48");
}

static void *look_at_the_message(void *context)
{
    (void)context;
    check_str(covey_error(), "");
    return NULL;
}

TEST(each_thread_has_its_own_message)
{
    pthread_t thread;

    check(covey_alloc_aligned(3, 8) == NULL);
    check_int(pthread_create(&thread, NULL, look_at_the_message, NULL), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_has(covey_error(), "3");
}

TEST(option_structs_of_other_versions_are_understood)
{
    struct {
        struct covey_options known;
        long unknown;
    } newer = {.known = {.size = sizeof newer}};
    struct covey_options unset = {.size = 0};
    size_t older = sizeof older;

    check_int(covey_open_with(NULL), ==, 0);
    check_int(covey_open_with((const void *)&older), ==, 0);
    check_int(covey_open_with(&newer.known), ==, 0);
    newer.unknown = 1;
    check_fails(covey_open_with(&newer.known), COVEY_EINVAL, "covey_options");
    check_fails(covey_open_with(&unset), COVEY_EINVAL, "not set");
    check_int(covey_close(), ==, 0);
    check_int(covey_close(), ==, 0);
}

TEST(option_structs_that_are_not_there_are_named)
{
    check(covey_array_new_with(NULL) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
    check_has(covey_error(), "options is NULL: it has to be a struct covey_array_options");
    check_fails(covey_queue_open_with(NULL), COVEY_EINVAL, "a struct covey_queue_options");
    check_fails(covey_pipe_open_with(NULL), COVEY_EINVAL, "a struct covey_pipe_options");
    check_fails(covey_process_start_with(NULL), COVEY_EINVAL, "a struct covey_process_options");
    check_fails(covey_pool_open_with(NULL), COVEY_EINVAL, "a struct covey_pool_options");
    check_fails(covey_pool_submit_with(NULL), COVEY_EINVAL, "a struct covey_submit_options");
    check_fails(covey_pool_map_with(NULL), COVEY_EINVAL, "a struct covey_map_options");
    check_fails(
        covey_connection_open_with(NULL), COVEY_EINVAL, "a struct covey_connection_options");
    check_fails(covey_listener_open_with(NULL), COVEY_EINVAL, "a struct covey_listener_options");
}
