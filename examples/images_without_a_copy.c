/* SPDX-License-Identifier: MIT */
/*
 * A camera and a viewer. The camera writes each image into a block of the arena and gives that away; the
 * viewer gets it at the same address, looks at it, and gives it back by another queue, to be used again. No
 * byte of an image is copied, and there are never more than three.
 *
 * Each queue ends with the process that puts into it: should one of the two be killed, the other one is told.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    IMAGE_BYTES = 8 * 1024 * 1024,
    IMAGES = 10,
    BLOCKS = 3,
};

struct job {
    covey_queue *images;
    covey_queue *empty;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int film(void *argument)
{
    const struct job *job = argument;

    for (int i = 0; i < IMAGES; i++) {
        void *image;

        if (covey_queue_get_block(job->empty, &image, NULL, COVEY_FOREVER) == COVEY_ECLOSED)
            return EXIT_FAILURE; /* nobody gives blocks back any more */
        memset(image, i, IMAGE_BYTES);
        check(covey_queue_put_block(job->images, image, IMAGE_BYTES, COVEY_FOREVER));
    }
    return EXIT_SUCCESS;
}

static int view(void *argument)
{
    const struct job *job = argument;
    const char *image;
    void *block;
    size_t size;

    while (covey_queue_get_block(job->images, &block, &size, COVEY_FOREVER) == 0) {
        image = block;
        (void)printf("an image of %zu MiB, all %d\n", size >> 20,
            image[0] == image[size - 1] ? image[0] : -1);
        check(covey_queue_put_block(job->empty, block, size, COVEY_FOREVER));
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct job job;
    covey_process *camera;
    covey_process *viewer;

    covey_main(argc, argv);
    check(covey_queue_open(&job.images, .producers = 1));
    check(covey_queue_open(&job.empty, .items = BLOCKS, .producers = 1));
    for (int i = 0; i < BLOCKS; i++) {
        void *block = covey_alloc_own(IMAGE_BYTES);

        if (!block)
            check(covey_error_code());
        check(covey_queue_put_block(job.empty, block, IMAGE_BYTES, COVEY_FOREVER));
    }
    check(covey_process_start(&camera, film, COVEY_ARGUMENT(job)));
    check(covey_process_start(&viewer, view, COVEY_ARGUMENT(job)));
    check(covey_queue_add_producer(job.images, camera));
    check(covey_queue_add_producer(job.empty, viewer));
    check(covey_queue_leave(job.empty)); /* this process has put the first blocks */
    check(covey_process_join(camera, COVEY_FOREVER));
    check(covey_process_join(viewer, COVEY_FOREVER));
    check(covey_process_close(camera));
    check(covey_process_close(viewer));
    check(covey_queue_free(job.images));
    check(covey_queue_free(job.empty));
    return EXIT_SUCCESS;
}
