/* SPDX-License-Identifier: MIT */
/* MPI's processes, which mpirun has made, and its messages: producer i sends to consumer i. */
#include "messages.h"

#include <mpi.h>

#include <stdlib.h>

static const struct plan *plan;
static int me;

void crew_begin(int *argc, char ***argv)
{
    fail_if(MPI_Init(argc, argv) != MPI_SUCCESS, "MPI_Init");
    fail_if(MPI_Comm_rank(MPI_COMM_WORLD, &me) != MPI_SUCCESS, "MPI_Comm_rank");
}

void crew_work(unsigned n, void (*work)(unsigned me))
{
    int size;

    fail_if(MPI_Comm_size(MPI_COMM_WORLD, &size) != MPI_SUCCESS || (unsigned)size != n, "ranks");
    work((unsigned)me);
}

double crew_meet(double value)
{
    fail_if(MPI_Barrier(MPI_COMM_WORLD) != MPI_SUCCESS, "MPI_Barrier");
    fail_if(MPI_Bcast(&value, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD) != MPI_SUCCESS, "MPI_Bcast");
    return value;
}

bool crew_speaks(void)
{
    return me == 0;
}

void crew_end(void)
{
    (void)MPI_Finalize();
}

static void make(const struct plan *p)
{
    plan = p;
}

static int partner(void)
{
    int n = (int)plan->producers;

    return me < n ? n + me % (int)plan->consumers : (me - n) % n;
}

static void put(unsigned way, const void *items)
{
    fail_if(MPI_Send(items, (int)(plan->size * plan->many), MPI_BYTE, partner(), (int)way,
                MPI_COMM_WORLD) != MPI_SUCCESS,
        "MPI_Send");
}

static void get(unsigned way, void *items)
{
    fail_if(MPI_Recv(items, (int)(plan->size * plan->many), MPI_BYTE, partner(), (int)way,
                MPI_COMM_WORLD, MPI_STATUS_IGNORE) != MPI_SUCCESS,
        "MPI_Recv");
}

const struct channel channels[] = {
    {.name = "mpi", .make = make, .put = put, .get = get},
    {0},
};
