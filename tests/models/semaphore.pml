/* SPDX-License-Identifier: MIT */
/*
 * The semaphore (sync/semaphore.h): nobody sleeps for what is free, nor for what the dead hold.
 *
 *   process   covey_semaphore_acquire(): the short way, or acquire() with take(), sleep_on(), hands_on();
 *             then covey_semaphore_release(): the short way, or give_slowly() and wake()
 *   SEVERAL   of these the one that takes all permits, and then releases one by one
 *   OTHER     the last process does nothing but release what others hold, or call
 *             covey_semaphore_value(); both with take_back()
 *
 * With EVENTS they are counted instead: the first TAKERS acquire, the others release.
 *
 * The share (sync/share.h) is what it commits: what is free, what each process holds, and who was the
 * last to operate. Its version is here who has seen it as it is. What a dead process holds is made free
 * in one step. Who lists the holders looks at the share again, and sleeps on it as it was before.
 *
 * A member's death is as in lock.pml. The impatient may give up when they sleep. Whoever holds a permit
 * may keep it for ever, STAYS of them at most: what a member is that is stopped, or slow.
 *
 * A load is one step with the compare-exchange for which it is made, or with the look for the dead when
 * nothing is free. Falling asleep is one step: wait.pml has it in full. Left out: spinning; cells
 * that are used again; new permits by releasing what nobody holds; EINTR, which is like a timeout.
 *
 * Without a mutant, since nothing here needs it: that take_back() wakes, for those who watched the dead
 * are awake. The rally and the wake for what is left are each enough without the other.
 *
 * Shown: the permits do not become more or less; every run ends, and when it has ended nobody who lives
 * sleeps while a permit is free, or while a dead process holds one.
 */
#ifndef N
#define N         3
#define PERMITS   1
#define TWICE     0 /* the one that does it twice, the others once; N: none */
#define SEVERAL   9 /* that one; N: none */
#define HELD      0 /* as many have a permit at the beginning */
#define TRIES     0 /* as many do not wait, with timeouts of 0 */
#define IMPATIENT 1 /* as many of those that wait */
#define STAYS     1
#define KILLS     1
#endif
#define WORDS   (2 + N)
#define GONG    1
#define LIFE(p) (2 + (p)) /* the sleepers that watch its life */
#define LIVES
#ifdef OTHER
#define TAKERS (N - 1)
#elif !defined(EVENTS)
#define TAKERS N
#endif

#include "kernel.pml"

bit sleepers; /* the bit of the word */
byte fresh;   /* those that have seen the word as it is, but for the bit */
#ifdef EVENTS
byte free;
#define low     (free | sleepers << 7)
#define holders 0
#else
byte free = PERMITS - HELD;
byte held[5];           /* by number + 1 */
byte last = (HELD > 0); /* to operate, + 1 */
#define low      (free | last << 2 | (held[last] & 1) << 5 | sleepers << 7)
#define all_held (held[1] + held[2] + held[3] + held[4])
#define holders  ((held[1] > 0) | (held[2] > 0) << 1 | (held[3] > 0) << 2 | (held[4] > 0) << 3)
#define mine     held[me + 1]
#endif
byte marked; /* those whose life words the kernel has marked */
byte stays;

#define free_of(w) ((w) & 3)
#define has_bit(w) ((w) & 128)
#define proved     (killed & gone)

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0
    }
}

/* Steps, or parts of them ******************************************************************** */

/* wake(), one or @all */
inline wake(all)
{
    if
    :: !sleepers
    :: sleepers ->
        if
        :: atomic { queued[GONG] && all -> wake_all(GONG) }
        :: atomic { queued[GONG] && !(all) -> wake_one(GONG, n); n = 0 }
        :: atomic { !queued[GONG] -> n = 0 };
            sleepers = 0;
#ifndef NO_SECOND_WAKE
            wake_all(GONG)
#endif
        fi
    fi
}

#ifdef EVENTS
#define may_take_shortly (free > 0)
#define may_give_shortly no_sleepers
#define is_still         (low == seen)

inline take_one()
{
    free--;
    timed_out = 0
}
#else
#define may_take_shortly (free > 0 && last == me + 1)
#define may_give_shortly (mine && last == me + 1 && no_sleepers)
#define is_still         (low == seen && (fresh & BIT(me)))

/* A commit, by the process of number @p - 1. */
inline commit(p)
{
    assert(free + all_held == PERMITS);
    last = p;
    fresh = 0
}

inline take_one()
{
    free--;
    mine++;
    commit(me + 1);
    timed_out = 0
}

/* The process @p - 1 is the last one already. */
inline give_one(p)
{
    free++;
    held[p]--;
    commit(p)
}

/* cv_share_reap(), one of the dead */
inline reap_one()
{
    i = 0;
    do
    :: !(BIT(i) & proved & holders) -> i++
    :: else -> break
    od;
    free = free + held[i + 1];
    held[i + 1] = 0;
    commit(i + 1);
    i = 0
}
#endif

#ifdef IGNORE_BIT
#define no_sleepers true
#else
#define no_sleepers !sleepers
#endif

#ifdef NO_REAP
#define may_reap false
#else
#define may_reap (proved & holders)
#endif

#if defined(EVENTS)
#define hands_on false
#elif defined(NO_NEXT_BY_TAKER)
#define hands_on (slept && timed_out)
#elif defined(NO_NEXT_BY_QUITTER)
#define hands_on (slept && !timed_out)
#else
#define hands_on slept
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

/******************************************************************************************** */

proctype process(byte me)
{
    byte i, n;
    byte seen;  /* the word */
    byte watch; /* the set of those whose lives it watches */
    byte left = (me == TWICE -> 2 : 1);
    bit slept, timed_out, freed;

    {
        atomic {
            if
            :: me < HELD -> left--; goto inside
            :: else
            fi
        };
begin:
        apart;
        atomic {
            left--;
            if
            :: me >= TAKERS -> goto release
            :: else
            fi;
            if
            :: may_take_shortly -> take_one(); goto inside
            :: else
            fi;
#ifndef NO_ALARM_TAKER
            alarm_set(me)
#endif
        };

        /* take() */
take:
#ifdef TAKE_BY_STORE
        seen = low;
#endif
        atomic {
            if
#ifdef TAKE_BY_STORE
            :: free_of(seen) > 0 -> free = free_of(seen); take_one(); goto end_of_wait
#else
            :: free > 0 -> take_one(); goto end_of_wait
#endif
            :: else -> seen = low; fresh = fresh | BIT(me)
            fi;
            if
#ifndef EVENTS
            :: may_reap -> reap_one(); goto take
#endif
            :: !may_reap && timed_out -> goto end_of_wait
            :: !may_reap && !timed_out && me < TRIES -> timed_out = 1; goto take
            :: else
            fi
        };

        /* sleep_on() */
        atomic {
            if
            :: has_bit(seen)
#ifdef NO_BIT
            :: else
#else
            :: !has_bit(seen) && is_still -> sleepers = 1; seen = low
            :: else -> goto take
#endif
            fi
        };
#ifndef NO_LIVES
        watch = holders;
#endif
        /* cv_wait_sleep() */
        atomic {
            slept = 1;
            if
            :: watch & proved -> goto after
            :: else
            fi;
            if
            :: false
#ifndef NO_COMPARE_LOW
            :: low != seen -> goto after
#endif
#if !defined(NO_COMPARE_HIGH) && !defined(EVENTS)
            :: !(fresh & BIT(me)) -> goto after
#endif
            :: else
            fi;
            seen = 0;
            fresh = fresh & ~BIT(me);
            queue_on(GONG, me);
            queue_on(ALARM, me);
            watch_lives();
            sleeping = sleeping | BIT(me)
        };
end_asleep:
        if
        :: woken & BIT(me)
        :: atomic { me >= TRIES && me < TRIES + IMPATIENT && !(woken & BIT(me)) -> timed_out = 1 }
        :: atomic { !(woken & BIT(me)) && (watch & proved) }
        fi;
        atomic {
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto after
            fi
        };
#ifndef NO_WAKE_OTHERS
        wake_all(GONG);
#endif
after:
        apart;
        atomic {
            seen = 0;
            timed_out = (watch & proved -> 0 : timed_out);
            watch = 0;
            goto take
        };

        /* Who has taken it, or gives up, wakes the next. */
end_of_wait:
        apart;
        atomic {
            seen = 0;
            fresh = fresh & ~BIT(me);
            if
            :: hands_on
#ifndef NO_NEXT_FOR_LEFT
            :: !hands_on && free > 0
#endif
            :: else -> goto inside
            fi
        };
        wake(0);

        /* Having it, or not */
inside:
        apart;
        atomic {
            slept = 0;
            alarm_clear(me);
            if
            :: timed_out -> timed_out = 0; left = 0; goto released
            :: else
            fi;
#ifdef EVENTS
            goto released
#else
            if
            :: stays < STAYS -> stays++; goto end_inside
            :: true
            fi;
            if
            :: me == SEVERAL && mine < PERMITS -> left++; goto begin
            :: else
            fi
#endif
        };

        /* Releasing */
release:
        apart;
#ifdef EVENTS
        atomic {
            if
            :: may_give_shortly -> free++; goto released
            :: else
            fi;
#ifndef NO_ALARM_RELEASE
            alarm_set(me)
#endif
        };
        free++;
#else
        atomic {
            if
            :: may_give_shortly -> give_one(me + 1); goto released
            :: else
            fi;
#ifndef NO_ALARM_RELEASE
            alarm_set(me)
#endif
        };
give:
        apart;
        atomic {
            if
            :: mine && last == me + 1 -> give_one(me + 1); goto wake_next
            :: mine && last != me + 1 -> commit(me + 1); goto give
            :: else
            fi
        };
take_back:
        apart;
        if
        :: atomic { may_reap -> reap_one(); freed = 1; goto take_back }
        :: atomic { !may_reap ->
            if
            :: !freed -> goto give_others
            :: else -> freed = 0
            fi }
        fi;
        wake(1);
give_others:
        apart;
        atomic {
            if
            :: me >= TAKERS -> goto released /* covey_semaphore_value() */
            :: true
            fi;
            n = 1;
            do
            :: n <= N && held[n] == 0 -> n++
            :: else -> break
            od;
            if
            :: n > N -> n = 0; goto released
            :: n <= N && last != n -> commit(n); n = 0; goto give_others
            :: else -> give_one(n); n = 0
            fi
        };
#endif
wake_next:
#ifndef NO_WAKE
        wake(0);
#endif
released:
        apart;
        atomic {
            alarm_clear(me);
            if
#ifndef EVENTS
            :: mine -> goto release
#endif
            :: else
            fi;
            if
            :: left > 0 -> goto begin
            :: else -> gone = gone | BIT(me); goto end_gone
            fi
        };
end_inside:
        false
    } unless { die(me) };
end_gone:
    false
}

#define asleep_now (sleeping & ~killed)

init
{
    byte p;

    atomic {
        do
        :: p < N ->
#ifndef EVENTS
            held[p + 1] = (p < HELD);
#endif
            run process(p);
            p++
        :: p >= N -> break
        od;
        run killer()
    }
    timeout;
    assert(!asleep_now || free == 0);
    assert(!asleep_now || !(holders & killed))
}
