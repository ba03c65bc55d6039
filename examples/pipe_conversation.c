/* SPDX-License-Identifier: MIT */
/*
 * A parent and a child at the two ends of a pipe. The parent sends words, the child answers each with its
 * length. The parent then closes its end: for the child that is the end of the conversation.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int measure(void *argument)
{
    covey_pipe *end = *(covey_pipe **)argument;
    char word[64];
    size_t length;
    int r;

    while ((r = covey_pipe_receive(end, word, sizeof word, &length, COVEY_FOREVER)) == 0)
        check(covey_pipe_send(end, &length, sizeof length, COVEY_FOREVER));
    (void)printf("the child: %s\n", r == COVEY_ECLOSED ? "the other end is closed" : covey_error());
    return 0;
}

int main(int argc, char **argv)
{
    const char *words[] = {"a", "covey", "of", "partridges"};
    covey_pipe *here;
    covey_pipe *there;
    covey_process *child;

    covey_main(argc, argv);
    check(covey_pipe_open(&here, &there));
    check(covey_process_start(&child, measure, COVEY_ARGUMENT(there)));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length;

        check(covey_pipe_send(here, words[i], strlen(words[i]), COVEY_FOREVER));
        check(covey_pipe_receive(here, &length, sizeof length, NULL, COVEY_FOREVER));
        (void)printf("%s has %zu letters\n", words[i], length);
    }
    (void)fflush(stdout);
    check(covey_pipe_close(here));
    check(covey_pipe_close(there));
    check(covey_process_join(child, COVEY_FOREVER));
    check(covey_process_close(child));
    return EXIT_SUCCESS;
}
