/* SPDX-License-Identifier: MIT */
/*
 * Who has a pipe's block (msg/pipe.h): it is freed once, when nobody who lives holds an end.
 *
 *   holder      covey_pipe_close(), with leave(); those that stay do not close
 *   undertaker  buries the dead one by one, with inherit() or end_rest(): what they had is his
 *
 * The block is process 0's at first. It is given to nobody who has been buried already (arena/heap.c). The
 * lock is one step, as in queue.pml, and not in the block.
 *
 * Left out: the two ends, and processes that come; so who has left does not hold an end any more.
 *
 * Shown: nobody touches the pipe when it is freed; every run ends, and when it has ended it is freed if and
 * only if nobody who lives holds an end.
 */
#ifndef N
#define N     3
#define STAYS 0 /* as many of them, the last ones */
#define KILLS 1
#endif
#define WORDS 1

#include "kernel.pml"

#define UNDERTAKER N
#define NOBODY     99

byte owner;              /* of the block */
byte held = (1 << N) - 1; /* those who hold an end */
byte lock;               /* holder + 1 */
byte buried;
bit ended; /* its signature says so */
bit freed;

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
        :: !(held & ~proved) -> heir = NOBODY
        fi
    }
}

/* leave(), in the lock */
inline let_go()
{
    do
    :: find_heir();
        atomic {
            assert(!freed);
            next = (heir == NOBODY -> me : heir);
            given = owner == before && (before == next || next == me || may_be_given(next));
            owner = (given -> next : owner)
        };
        if
        :: atomic { given && heir == NOBODY -> assert(!ended); ended = 1 };
            leave();
            end_rest();
            break
        :: atomic { given && heir != NOBODY && !is_gone(heir) -> skip };
            leave();
            break
        :: atomic { !given || (heir != NOBODY && is_gone(heir)) -> skip }
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

proctype holder(byte me)
{
    byte i, n, heir, before, next;
    bit given;

    {
        if
        :: me >= N - STAYS -> goto end_inside
        :: else
        fi;
        enter();
        atomic { assert(!freed); held = held & ~BIT(me) };
        let_go();
        atomic { gone = gone | BIT(me); goto end_gone };
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
        :: owner != me
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
    assert(freed == !(held & ~killed))
}
