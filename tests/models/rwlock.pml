/* SPDX-License-Identifier: MIT */
/*
 * The reader/writer lock (sync/rwlock.h): nobody waits for the dead or for nobody, and a dead writer is told.
 *
 *   reader   covey_rwlock_acquire_read(): acquire_read(), sleep_as_reader(), tell_writer()
 *   writer   covey_rwlock_acquire_write(): the look at the gate and at the share of the short way;
 *            cv_lock_take_slowly() at the gate, take_all(), sleep_as_writer(), cv_lock_exit()
 *   both     covey_rwlock_release() with is_awaited(), short or not
 *
 * The share (sync/share.h) is what it commits: who holds a permit, who all of them, and the flag for
 * a dead writer. Its version, which sleepers compare, is here who has seen it as it is. What a dead
 * process holds is made free in one step. There are PERMITS in all, so PERMITS - 1 readers at most.
 *
 * A member's death is as in lock.pml. The impatient may give up when they sleep. Whoever has the lock may
 * stay in it for ever, STAYS of them at most: what a member is that is stopped, or slow.
 *
 * The alarm is pending where the short ways have it, and later than in the C code in the others.
 * Ringing the bell is one step, and so is falling asleep: wait.pml has them in full. Left out: spinning;
 * slots that are used again; a word that changes for another cell only; EINTR, which is like a timeout.
 *
 * Without a mutant, since three processes do not need it here: that a writer always rings, the alarm
 * while releasing, the rally, and who wakes the next at the gate (for which there is lock.pml).
 *
 * Shown: nobody living has the lock beside a writer; after a writer's death all are told so until a writer
 * is; every run ends, and when it has ended nobody who lives sleeps unless somebody who lives has
 * the lock, and no reader but for a writer in it or at the gate, or for too many readers.
 */
#ifndef N
#define N         3
#define WRITERS   1 /* the first of them; the others read */
#define TWICE     0 /* the one that takes the lock twice, the others once; N: none */
#define IMPATIENT 0 /* as many of the writers, and of the readers */
#define PERMITS   7
#define STAYS     1
#define KILLS     1
#endif
#define WORDS   (3 + N)
#define GATE    1
#define GONG    2
#define LIFE(p) (3 + (p)) /* the sleepers that watch its life */
#define LIVES

#define BELLS   1
#include "kernel.pml"
#include "bell.pml"

#define FLAG      8
#define HOLDER(w) ((w) & 7) /* its number + 1 */
#define BIT_OF(w) (BIT(HOLDER(w)) >> 1)
#define READS     2 /* permits of which a reader takes one */

byte gate;    /* as the word in lock.pml */
byte readers; /* the set of those that hold one permit */
byte writer;  /* who holds all, + 1 */
byte fresh;   /* those that have seen the share as it is, with its version */
bit died;
byte marked; /* those whose life words the kernel has marked */
byte past;   /* those whose slot says that they are dead */
byte stays;

/* For the properties only. */
bit owed; /* a writer has died in it, and none has taken all since */

#define holders   (readers | (BIT(writer) >> 1))
#define n_set(set) (((set) & 1) + ((set) >> 1 & 1) + ((set) >> 2 & 1) + ((set) >> 3 & 1))
#define n_free    (writer -> 0 : PERMITS - n_set(readers))

#define proved          (killed & gone)
#define is_past(w)      (past & BIT_OF(w))
#define me_is_impatient (me < IMPATIENT || (me >= WRITERS && me < WRITERS + IMPATIENT))

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0;
        owed = owed | (writer == p + 1)
    }
}

/* Steps, or parts of them ******************************************************************** */

#define ring_all() ring(0, true)

/* cv_share_reap(), one of the dead */
inline reap_one()
{
    past = past | (proved & holders);
    i = 0;
    do
    :: !(BIT(i) & proved & holders) -> i++
    :: else -> break
    od;
#ifndef NO_TOLD
    died = died | (writer == i + 1);
#endif
    readers = readers & ~BIT(i);
    writer = (writer == i + 1 -> 0 : writer);
    fresh = 0;
    i = 0
}

#ifdef NO_REAP
#define may_reap false
#else
#define may_reap (proved & holders)
#endif

inline watch_lives()
{
    i = 0;
    do
    :: i < N && (watch & ~marked & BIT(i)) -> queue_on(LIFE(i), me); i++
    :: i < N && !(watch & ~marked & BIT(i)) -> i++
    :: else -> break
    od;
    i = 0
}

/* cv_wait_sleep() on the bell: a life is over, or something has changed, or it sleeps. */
inline sleep_on_bell(compares_gate, compares_word)
{
    atomic {
        alarm_set(me);
        if
        :: watch & proved -> goto after
        :: else
        fi;
        if
        :: false
        :: !is_as_armed(0) -> goto after
#ifndef NO_COMPARE_WORD
        :: compares_word && !(fresh & BIT(me)) -> goto after
#endif
#ifndef NO_COMPARE_GATE
        :: compares_gate && gate != now -> goto after
#endif
        :: else
        fi;
        few = 0;
        now = 0;
        fresh = fresh & ~BIT(me);
        heard[0] = heard[0] & ~BIT(me);
        queue_on(GONG, me);
        queue_on(ALARM, me);
        watch_lives();
        sleeping = sleeping | BIT(me)
    }
}

/* The commit of a writer */
inline take_them()
{
    assert(!(holders & ~killed));
    assert(!owed || died);
    owed = 0;
    died = 0;
    writer = me + 1;
    fresh = 0;
    timed_out = 0
}

/******************************************************************************************** */

proctype process(byte me)
{
    byte i, n;
    byte now;   /* the gate */
    byte watch; /* the set of those whose lives it watches */
    byte left = (me == TWICE -> 2 : 1);
    bit few;    /* permits were free for a reader */
    bit timed_out, death, slept, inside_gate;

    {
        goto begin;
begin:
        apart;
        atomic {
            left--;
            if
            :: me < WRITERS -> goto write
            :: else
            fi
        };

        /* Reading */
read:
        apart;
        atomic {
            now = gate;
#ifndef NO_OPEN
            if
            :: now && is_past(now) -> gate = 0; now = 0; alarm_set(me); goto read
            :: else
            fi
#endif
        };
take_one:
        apart;
        atomic {
            if
            :: now == 0 && n_free >= READS ->
                assert(!(writer && !(BIT_OF(writer) & killed)));
                assert(!owed || died);
#ifdef TOLD_ONCE
                owed = owed; died = 0;
#endif
#ifndef NO_ALARM_READ
                alarm_set(me);
#endif
                readers = readers | BIT(me);
                fresh = 0;
                death = 0;
                timed_out = 0;
                goto tell
            :: else -> few = (n_free < READS); fresh = fresh | BIT(me)
            fi
        };
        if
        :: atomic { (now == 0 || death) && may_reap -> alarm_set(me); reap_one();
            if
            :: now == 0 -> goto take_one
            :: else
            fi }
            ring_all()
        :: atomic { !((now == 0 || death) && may_reap) ->
            if
            :: timed_out -> goto quit
            :: else
            fi }
        fi;
        atomic {
            death = 0;
#ifndef NO_LIVES_READER
            watch = (few -> holders : 0);
#endif
#if !defined(NO_LIFE_GATE) && !defined(LATE_GATE)
            watch = watch | BIT_OF(now)
#endif
        };
#ifdef LATE_GATE
        watch = watch | (gate && !is_past(gate) -> BIT_OF(gate) : 0);
#endif
        atomic { arm(0) };
        sleep_on_bell(1, few);
        goto asleep;

tell:
        apart;
#ifndef NO_TELL
        if
        :: gate -> ring_all()
        :: gate == 0
        fi;
#endif
        goto inside;

        /* Writing */
write:
        apart;
        if
        :: gate == 0 ->
            atomic {
                if
                :: n_free == PERMITS -> take_them(); goto inside
                :: else
                fi
            }
        :: gate
        fi;

        /* cv_lock_take_slowly() */
look:
        now = gate;
        if
        :: atomic { HOLDER(now) == 0 || is_past(now) ->
            if
            :: gate != now -> goto look
            :: else
            fi;
            alarm_set(me);
            gate = (me + 1) | ((now & FLAG) || slept -> FLAG : 0);
            inside_gate = 1;
            now = 0;
            timed_out = 0 };
            if
            :: slept ->
                wake_one(GATE, n);
                atomic { n = 0; slept = 0 }
            :: !slept
            fi;
            goto take_all
        :: atomic { else ->
            if
            :: timed_out -> goto quit
            :: else
            fi }
        fi;
        atomic {
            if
            :: gate != now -> goto look
            :: else -> gate = gate | FLAG; now = gate
            fi;
            watch = BIT_OF(now)
        };
        atomic {
#ifndef NO_ALARM_GATE
            alarm_set(me);
#endif
            slept = 1;
            if
            :: watch & proved -> goto after
            :: else
            fi;
            if
            :: gate != now -> goto after
            :: else -> now = 0
            fi;
            queue_on(GATE, me);
            queue_on(ALARM, me);
            watch_lives();
            sleeping = sleeping | BIT(me)
        };
        goto asleep;

take_all:
        apart;
        atomic {
            if
            :: n_free == PERMITS -> take_them(); goto leave_gate
            :: else -> fresh = fresh | BIT(me)
            fi
        };
        if
        :: atomic { may_reap -> reap_one(); goto take_all }
        :: atomic { !may_reap ->
            if
            :: timed_out -> goto leave_gate
            :: else
            fi }
        fi;
#ifndef NO_LIVES_WRITER
        watch = holders;
#endif
        atomic { arm(0) };
        sleep_on_bell(0, 1);
        goto asleep;

leave_gate:
        apart;
        atomic { now = gate; gate = 0; inside_gate = 0 };
        if
        :: atomic { now & FLAG -> now = 0 };
            wake_one(GATE, n)
        :: atomic { !(now & FLAG) -> now = 0 }
        fi;
        atomic {
            n = 0;
            if
            :: writer == me + 1 -> goto inside
            :: else
            fi
        };
#ifndef NO_RING_QUIT
        ring_all();
#endif
        goto gave_up;

        /* Sleeping */
asleep:
end_asleep:
        if
        :: woken & BIT(me)
        :: atomic { me_is_impatient && !(woken & BIT(me)) -> timed_out = 1 }
        :: atomic { !(woken & BIT(me)) && (watch & proved) }
        fi;
        atomic {
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto after
            fi
        };
        atomic { rally_all() };
after:
        apart;
        atomic {
            disarm(0);
            now = 0;
            few = 0;
            fresh = fresh & ~BIT(me);
            if
            :: watch & proved -> past = past | (watch & proved); death = (me >= WRITERS); timed_out = 0
            :: else
            fi;
            watch = 0;
            if
            :: me >= WRITERS -> goto read
            :: me < WRITERS && inside_gate -> goto take_all
            :: else -> goto look
            fi
        };

        /* Having it */
inside:
        apart;
        atomic {
            now = 0;
            few = 0;
            alarm_clear(me);
            if
            :: stays < STAYS -> stays++; goto end_inside
            :: true
            fi
        };
        atomic {
            alarm_set(me);
            n = (writer == me + 1);
            readers = readers & ~BIT(me);
            writer = (n -> 0 : writer);
            fresh = 0
        };
        if
        :: atomic { bell[0] == QUIET -> n = 0; goto released }
        :: atomic { true ->
            if
            :: n -> n = 0; goto wake
            :: else
            fi
            }
        fi;
        if
        :: atomic { gate == 0 ->
#ifdef NO_RING_NO_GATE
            goto released
#else
            goto wake
#endif
            }
        :: gate
        fi;
        if
        :: false
#ifndef NO_RING_LAST
        :: atomic { n_free == PERMITS -> goto wake }
#endif
#ifndef NO_RING_LATE
        :: atomic { n_free == 0 -> goto wake }
#endif
        :: atomic { else -> goto released }
        fi;
wake:
        ring_all();
released:
        apart;
        atomic {
            alarm_clear(me);
            if
            :: left > 0 -> goto begin
            :: else -> gone = gone | BIT(me); goto end_gone
            fi
        };

quit:
        apart;
        atomic { now = 0; few = 0; death = 0 };
        if
        :: atomic { slept -> slept = 0 };
            wake_one(GATE, n);
            n = 0
        :: !slept
        fi;
gave_up:
        atomic { alarm_clear(me); gone = gone | BIT(me); goto end_gone };
end_inside:
        false
    } unless { die(me) };
end_gone:
    false
}

#define living_holders (holders & ~killed)
#define asleep_now     (sleeping & ~killed)

init
{
    byte p;

    atomic {
        do
        :: p < N -> run process(p); p++
        :: p >= N -> break
        od;
        run killer()
    }
    timeout;
    assert(!asleep_now || living_holders);
    assert(!(asleep_now >> WRITERS) || (BIT_OF(writer) & ~killed) ||
           PERMITS - n_set(readers & ~killed) < READS ||
           (gate && !(BIT_OF(gate) & (killed | gone))))
}
