/* SPDX-License-Identifier: MIT */
/*
 * A writer and a reader, two processes with a queue between them. The writer puts the numbers 1 to
 * 10 and then an item of no bytes, which tells the reader to stop. The reader prints each number
 * as it comes, and their sum.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

struct job {
    covey_queue *queue;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int write_numbers(void *argument)
{
    covey_queue *queue = ((struct job *)argument)->queue;

    for (int n = 1; n <= 10; n++)
        check(covey_queue_put(queue, &n, sizeof n, COVEY_FOREVER));
    check(covey_queue_put(queue, NULL, 0, COVEY_FOREVER));
    return 0;
}

static int read_numbers(void *argument)
{
    covey_queue *queue = ((struct job *)argument)->queue;
    size_t size;
    int sum = 0;
    int n;

    for (;;) {
        check(covey_queue_get(queue, &n, sizeof n, &size, COVEY_FOREVER));
        if (size == 0)
            break;
        (void)printf("read %d\n", n);
        sum += n;
    }
    (void)printf("the sum is %d\n", sum);
    return 0;
}

static void join(covey_process *process)
{
    int code;

    check(covey_process_join(process, COVEY_FOREVER));
    check(covey_process_exit_code(process, &code));
    (void)printf("the %s ended with %d\n", covey_process_name(process), code);
    check(covey_process_close(process));
}

int main(int argc, char **argv)
{
    struct job job;
    covey_process *writer;
    covey_process *reader;

    covey_main(argc, argv);
    check(covey_queue_open(&job.queue));
    check(covey_process_start(&writer, write_numbers, COVEY_ARGUMENT(job), .name = "writer"));
    check(covey_process_start(&reader, read_numbers, COVEY_ARGUMENT(job), .name = "reader"));
    join(reader);
    join(writer);
    check(covey_queue_free(job.queue));
    return EXIT_SUCCESS;
}
