/* SPDX-License-Identifier: MIT */
/*
 * Who has a pipe's block (msg/pipe.h): it is freed once, when nobody who lives holds an end.
 *
 *   holder      covey_pipe_close(), with leave(); those that stay do not close
 *   giver       process 0, if there is a TICKET: end_one(), where it may give up before the lock
 *   undertaker  buries the dead one by one, with inherit() or end_rest(), and inherit_ticket(): what they had is his
 *
 * The block is process 0's at first, or number 1's. It is given to nobody who has been buried already (arena/heap.c). The
 * lock is one step, as in queue.pml, and not in the block.
 *
 * Left out: the two ends, and processes that come; so who has left does not hold an end any more. The queue: the
 * ticket is its giver's own from the beginning, who does not hold an end besides.
 *
 * Shown: nobody touches the pipe when it is freed, nor the ticket; every run ends, and when it has ended, the
 * ticket is freed, unless its giver has given up, and lives; and with it the pipe, if and only if nobody who lives
 * holds an end.
 */
#ifndef N
#define N      3
#define STAYS  0 /* as many of them, the last ones */
#define TICKET 0
#define KILLS  1
#endif
#define WORDS 1

#include "kernel.pml"

#define UNDERTAKER N
#define OBJECT     97 /* as an heir, the ticket */
#define NOBODY     99

byte owner = TICKET;     /* of the block: one who holds an end */
byte held = (1 << N) - 1 - TICKET; /* those who hold an end */
byte lock;               /* holder + 1 */
byte buried;
bit ended; /* its signature says so */
bit freed;

/* The ticket: */
byte bearer;
bit over;
bit celled = TICKET; /* it has a cell */
bit dropped = 1 - TICKET; /* it is freed */
bit gave_up;

#define proved       (killed & gone)
#define dead(holder) ((holder) && (proved & (BIT(holder) >> 1)))
#define holds(p)     ((p) < N && (held & ~proved & BIT(p)))

inline enter()
{
#ifndef NO_LOCK
    atomic { !lock || dead(lock) -> lock = me + 1 }
#else
    skip
#endif
}

inline leave()
{
#ifndef NO_LOCK
    lock = 0
#else
    skip
#endif
}

#ifdef LEAVE_OVER
#define counts (celled && !over)
#else
#define counts celled
#endif

/* end_in_lock(), of a ticket of this process's */
inline drop()
{
#ifndef NO_KEEP
    atomic { assert(!freed); owner = me };
#endif
    atomic { assert(!freed && !dropped); celled = 0 };
    atomic { assert(!dropped); dropped = 1; bearer = NOBODY }
}

inline end_those_over()
{
    if
    :: atomic { celled && over -> assert(!dropped); bearer = me };
        drop()
    :: atomic { !(celled && over) -> skip }
    fi
}

/* cv_heap_give(), and who has given it looks once more */
#ifdef BURIED_LAST
#define may_be_given(p) true
#define is_gone(p)      false
#else
#define may_be_given(p) !(buried & BIT(p))
#define is_gone(p)      (!holds(p))
#endif

/* find_holder() */
inline find_heir()
{
    atomic {
        assert(!freed);
        before = owner;
        if
        :: holds(before) -> heir = before
        :: !holds(before) && holds(0) -> heir = 0
        :: !holds(before) && holds(1) -> heir = 1
        :: !holds(before) && holds(2) -> heir = 2
        :: !(held & ~proved) && counts -> heir = OBJECT
        :: !(held & ~proved) && !counts -> heir = NOBODY
        fi
    }
}

/* leave(), in the lock */
inline let_go()
{
    do
    :: end_those_over();
        find_heir();
        atomic {
            assert(!freed);
            next = (heir == NOBODY -> me : heir);
            given = owner == before && (before == next || next == me || next == OBJECT || may_be_given(next));
            owner = (given -> next : owner)
        };
        if
        :: atomic { given && heir == NOBODY -> assert(!ended && !celled); ended = 1 };
            leave();
            end_rest();
            break
        :: atomic { given && heir != NOBODY && !(heir != OBJECT && is_gone(heir)) -> skip };
            leave();
            break
        :: atomic { !given || (heir != NOBODY && heir != OBJECT && is_gone(heir)) -> skip }
        fi
    od;
    atomic { heir = 0; before = 0; next = 0; given = 0 }
}

inline end_rest()
{
    atomic {
        assert(!freed && owner == me);
        freed = 1;
        owner = NOBODY
    }
}

/* enter(), and whether the pipe is there still */
inline leave_if_there()
{
    if
#ifndef NO_LOOK
    :: atomic { ended -> skip };
        leave()
    :: atomic { !ended -> skip };
        let_go()
#else
    :: let_go()
#endif
    fi
}

proctype holder(byte me)
{
    byte i, n, heir, before, next;
    bit given;

    {
        if
        :: me >= N - STAYS -> goto end_inside
        :: me == 0 && TICKET -> goto give
        :: else
        fi;
        enter();
        atomic { assert(!freed); held = held & ~BIT(me) };
        let_go();
        atomic { gone = gone | BIT(me); goto end_gone };
give:
        atomic { assert(!dropped); over = 1 };
        if
        :: enter();
            leave_if_there()
        :: atomic { gave_up = 1 }
        fi;
end_inside:
        false
    } unless { die(me) };
end_gone:
    false
}

proctype undertaker(byte me)
{
    byte heir, before, next, p;
    bit given;

end:
    do
    :: atomic { proved & ~buried ->
            p = 0;
            do
            :: !(proved & ~buried & BIT(p)) -> p++
            :: else -> break
            od };
        atomic {
            buried = buried | BIT(p);
            if
#ifndef NO_BURIAL
            :: owner == p -> owner = me
#endif
            :: else
            fi
        };
        if
        :: atomic { owner == me && ended -> skip };
            end_rest()
        :: atomic { owner == me && !ended -> skip };
            enter();
            leave_if_there()
        :: owner != me
        fi;
        if
        :: bearer == p && !dropped ->
            enter();
            if
            :: atomic { bearer == p && !dropped -> bearer = me };
                if
                :: atomic { ended -> dropped = 1; bearer = NOBODY }
                :: atomic { !ended -> skip };
                    drop()
                fi
            :: atomic { !(bearer == p && !dropped) -> skip }
            fi;
            leave_if_there()
        :: else
        fi
    od
}

init
{
    byte p;

    atomic {
        do
        :: p < N -> run holder(p); p++
        :: p >= N -> break
        od;
        run undertaker(UNDERTAKER);
        run killer()
    }
    timeout;
    assert(dropped || (gave_up && !(killed & BIT(0))));
    assert(freed == (!(held & ~killed) && dropped))
}
