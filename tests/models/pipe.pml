/* SPDX-License-Identifier: MIT */
/*
 * Who has a pipe's block (msg/pipe.h): it is freed once, when nobody who lives holds an end.
 *
 *   holder      covey_pipe_close(), with leave(); those that stay do not close
 *   undertaker  buries the dead one by one, with inherit(): what they had is his
 *
 * The block is process 0's at first. It is given to nobody who has been buried already (arena/heap.c). The
 * lock is one step, as in queue.pml; with NO_LOCK, who has given the block away looks afterwards whether
 * the new one holds an end still, and takes it back.
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
bit freed;

#define proved       (killed & gone)
#define dead(holder) ((holder) && (proved & (BIT(holder) >> 1)))

inline enter()
{
#ifndef NO_LOCK
    atomic { !lock || dead(lock) -> assert(!freed); lock = me + 1 }
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

#ifdef BURIED_LAST
#define may_be_given true
#else
#define may_be_given !(buried & BIT(heir))
#endif

/* What leave() does with the block */
inline let_go()
{
    do
    :: atomic { held & BIT(0) & ~proved & ~BIT(me) -> heir = 0 }; give()
    :: atomic { held & BIT(1) & ~proved & ~BIT(me) -> heir = 1 }; give()
    :: atomic { held & BIT(2) & ~proved & ~BIT(me) -> heir = 2 }; give()
    :: atomic { !(held & ~proved & ~BIT(me)) -> assert(!freed) };
        atomic {
            assert(!freed && owner == me);
            freed = 1;
            owner = NOBODY;
            lock = 0;
            break
        }
    od;
    heir = 0
}

inline give()
{
    assert(!freed);
    if
    :: atomic { owner == me && may_be_given -> owner = heir };
#ifndef NO_LOCK
        leave();
        break
#else
        if
        :: atomic { held & BIT(heir) -> assert(!freed); break }
        :: atomic { !(held & BIT(heir)) -> assert(!freed) };
            if
            :: atomic { owner == heir -> owner = me }
            :: atomic { owner != heir -> break }
            fi
        fi
#endif
    :: else
    fi
}

proctype holder(byte me)
{
    byte i, n, heir;

    {
        if
        :: me >= N - STAYS -> goto end_inside
        :: else
        fi;
        enter();
        held = held & ~BIT(me);
        if
        :: owner == me -> let_go()
        :: owner != me -> leave()
        fi;
        atomic { gone = gone | BIT(me); goto end_gone };
end_inside:
        false
    } unless { die(me) };
end_gone:
    false
}

proctype undertaker(byte me)
{
    byte heir, p;

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
        :: owner == me -> enter(); let_go()
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
