/* SPDX-License-Identifier: MIT */
#include "base/error.h"
#include "msg/queue.h"
#include "proc/process.h"

int covey_queue_add_producer(covey_queue *queue, covey_process *process)
{
    pid_t pid = process ? covey_process_pid(process) : 0;

    if (pid < 0)
        return pid;
    return cv_queue_add_producer(queue, process ? process->tag : 0);
}
