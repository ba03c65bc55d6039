/* SPDX-License-Identifier: MIT */
/*
 * Requests through one queue, each answer to who has asked. A request is an end of a new pipe with the question in
 * it. Who asks closes its own copy of that end: so only who takes the request holds it, and if that process
 * dies, here one that is killed by the question 3, the one who has asked is told, and asks another one.
 */
#include <covey.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct service {
    covey_queue *requests;
    bool is_weak;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int serve(void *argument)
{
    const struct service *s = argument;
    covey_pipe *end;

    while (covey_pipe_get(s->requests, &end, COVEY_FOREVER) == 0) {
        int n;

        check(covey_pipe_receive_exactly(end, &n, sizeof n, COVEY_FOREVER));
        if (s->is_weak && n == 3)
            (void)kill(getpid(), SIGKILL);
        n *= n;
        (void)covey_pipe_send(end, &n, sizeof n, COVEY_FOREVER); /* who has asked may be gone */
        check(covey_pipe_close(end));
    }
    return 0;
}

static covey_process *start_server(covey_queue *requests, bool is_weak)
{
    struct service s = {requests, is_weak};
    covey_process *server;

    check(covey_process_start(&server, serve, COVEY_ARGUMENT(s)));
    return server;
}

/* 0 and the answer; COVEY_ECLOSED: who has taken the request is gone. */
static int ask(covey_queue *requests, int question, int *answer)
{
    covey_pipe *here;
    covey_pipe *there;
    int r;

    check(covey_pipe_open(&here, &there));
    check(covey_pipe_send(here, &question, sizeof question, 0));
    check(covey_pipe_put(requests, there, COVEY_FOREVER));
    check(covey_pipe_close(there));
    r = covey_pipe_receive_exactly(here, answer, sizeof *answer, COVEY_FOREVER);
    check(covey_pipe_close(here));
    return r;
}

static void end(covey_process *server)
{
    check(covey_process_join(server, COVEY_FOREVER));
    check(covey_process_close(server));
}

int main(int argc, char **argv)
{
    covey_queue *requests;
    covey_process *server;

    covey_main(argc, argv);
    check(covey_queue_open(&requests));
    server = start_server(requests, true);
    for (int n = 1; n <= 4; n++) {
        int answer;
        int r;

        while ((r = ask(requests, n, &answer)) == COVEY_ECLOSED) {
            (void)printf("nobody will answer %d any more: another server\n", n);
            end(server);
            server = start_server(requests, false);
        }
        check(r);
        (void)printf("%d squared is %d\n", n, answer);
    }
    check(covey_queue_close(requests));
    end(server);
    check(covey_queue_free(requests));
    return EXIT_SUCCESS;
}
