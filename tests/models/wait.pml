/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking (sync/wait.h): no wake is lost, whoever is killed, and when.
 *
 *   waker     what a waker does: cv_alarm_set(), its commit, cv_bell_ring() with
 *             cv_bell_ring_armed(), cv_alarm_clear()
 *   waiter    a look, cv_bell_arm(), cv_wait_sleep() with cv_futex_wait(), rally(), and
 *             cv_bell_disarm(), another look, cv_wait_end()
 *   leaver    with LEAVER: leaves, and rings for all; what it changes is not compared
 *
 * A commit publishes one item and changes the word that waiters compare, in one store. Waiters note
 * the word, look for an item, take it by a compare-exchange, and come back for more; those that are
 * not patient may leave when they have slept, as after a timeout. Whether the leaver is there they look
 * when they have armed the bell, and watch its life; they go when it has gone.
 *
 * The kernel compares and queues word by word. Until a sleeper is on the alarm as well, the wake of a
 * death passes him by; so what it compares must come after the alarm: the gong, the leaver's life, the
 * alarm, then the word of the commit, by which nobody is woken.
 * (ALARM_QUEUED_LAST has the alarm behind all others.) With ONE_STEP, falling asleep is one step.
 *
 * The gong only counts, and so does the state; so it is here who has seen them as they are.
 *
 * With IN_WORD, the state of the bell is a bit of the word (sync/semaphore.h), and the gong is a word that
 * does not change: who finds it quiet commits only if it still is, and has no alarm; the waiter arms the
 * word that he has seen.
 *
 * With NAPS, the first sleep of each wait is cv_futex_nap(): asleep on the gong alone, and it ends by itself.
 *
 * Left out: spinning, which only looks at the word, and other lives (lock.pml).
 *
 * Shown: every run ends, and when it has ended no waiter that lives sleeps while there is an item,
 * or on a bell that is quiet, or when the leaver has gone.
 */
#ifndef WAITERS
#define WAITERS 3
#define WAKERS  2
#define COMMITS 2 /* of each waker */
#define KILLS   2
#define IMPATIENT 1 /* as many of the waiters */
#endif
#ifdef LEAVER
#define N     (WAITERS + WAKERS + 1)
#define WORDS 3
#define LIFE  2 /* of the leaver */
#define LIVES
#else
#define N     (WAITERS + WAKERS)
#define WORDS 2
#endif
#define GONG 1 /* the other word that is slept on */

#include "kernel.pml"

/* The state of the bell. */
bit armed;
byte fresh; /* those who have seen the state as it is */
byte heard; /* those who have seen the gong as it is */
byte word;  /* as many as have been published */
byte items; /* published and not taken */

#ifdef LEAVER
#define LEAVER_BIT BIT(N - 1)

bit has_left;
bit marked; /* its life word, by the kernel */

#define leaver_died  (killed & gone & LEAVER_BIT)
#define leaver_gone  (has_left || leaver_died)

inline life_ends(p)
{
    d_step {
        if
        :: (p) == N - 1 -> marked = 1; woken = woken | queued[LIFE]; queued[LIFE] = 0
        :: else
        fi
    }
}
#else
#define leaver_gone false
#define leaver_died false
#endif

#ifdef IN_WORD
#define count_gong() skip
#else
#define count_gong() heard = 0
#endif

/* cv_bell_ring() for one or @all */
inline ring(all)
{
    if
    :: atomic { armed -> fresh = fresh | BIT(me) };
#ifdef QUIET_FIRST
        armed = 0;
        fresh = 0;
#endif
#ifndef NO_COUNT
        count_gong();
#endif
        if
        :: atomic { queued[GONG] && !(all) -> wake_one(GONG, n); n = 0 }
        :: atomic { queued[GONG] && (all) -> wake_all(GONG) }
        :: !queued[GONG] ->
#ifdef IN_WORD
            armed = 0;
#ifndef NO_SECOND_WAKE
            wake_all(GONG)
#else
            skip
#endif
#elif defined(QUIET_BY_STORE)
            atomic { armed = 0; fresh = 0 }
#else
            atomic {
                if
                :: fresh & BIT(me) -> armed = 0; fresh = 0
                :: else
                fi
            }
#endif
        fi;
        fresh = fresh & ~BIT(me)
    :: !armed
    fi
}

/* rally() */
inline rally_by_gong()
{
#ifdef RALLY_ON_ALARM
    wake_all(ALARM)
#else
    count_gong();
    wake_all(GONG)
#endif
}

inline queue_first()
{
    d_step {
#ifndef NO_ALARM_WAITER
        alarm_set(me);
#endif
        queue_on(GONG, me);
        sleeping = sleeping | BIT(me)
    }
}

proctype waker(byte me)
{
    byte i, n;
    byte left = COMMITS;

    {
        goto again;
again:
#ifdef IN_WORD
        if
        :: atomic {
#ifndef IGNORE_BELL
            !armed ->
#endif
            left--; word++; items++; goto done }
        :: armed
        fi;
#endif
        atomic {
            left--;
#if !defined(NO_ALARM_WAKER) && !defined(ALARM_AFTER_COMMIT)
            alarm_set(me);
#endif
            word++;
            items++
        };
#ifdef ALARM_AFTER_COMMIT
        alarm_set(me);
#endif
        ring(false);
done:
        apart;
        atomic {
            alarm_clear(me);
            if
            :: left > 0 -> goto again
            :: else -> gone = gone | BIT(me)
            fi
        }
    } unless { die(me) };
end_gone:
    false
}

#ifdef LEAVER
proctype leaver(byte me)
{
    byte i, n;

    {
        atomic { alarm_set(me); has_left = 1 };
#ifndef NO_RING_LEAVE
        ring(true);
#endif
        atomic { alarm_clear(me); gone = gone | BIT(me) }
    } unless { die(me) };
end_gone:
    false
}
#endif

proctype waiter(byte me)
{
    byte i, n;
    byte seen;
    bit alone;
    bit timed_out;
#ifdef NAPS
    bit napped;
#endif
#ifdef IN_WORD
    bit was_armed;
#endif

    {
        goto look;
look:
        apart;
        if
        :: atomic { items > 0 -> items--; alarm_clear(me); /* cv_wait_end() */
#ifdef NAPS
            napped = 0;
#endif
            goto look }
        :: atomic { items == 0 && timed_out -> goto leave }
        :: atomic { items == 0 && !timed_out -> seen = word;
#ifdef IN_WORD
            was_armed = armed
#endif
            }
        fi;
#if defined(LEAVER) && defined(LOOK_FIRST)
        if
        :: atomic { leaver_gone -> goto leave }
        :: !leaver_gone
        fi;
#endif
#ifdef IN_WORD
        atomic {
            if
            :: was_armed
            :: !was_armed && word == seen && !armed -> armed = 1
            :: else -> was_armed = 0; seen = 0; goto look
            fi;
            was_armed = 0
        };
#else
#ifndef GONG_AFTER_ARM
        heard = heard | BIT(me);
#endif
        atomic {
            alone = !armed;
            armed = 1;
#ifndef NO_ARM_COUNT
            fresh = 0;
#endif
            fresh = fresh | BIT(me)
        };
#endif
#if defined(LEAVER) && !defined(LOOK_FIRST)
        if
        :: atomic { leaver_gone -> goto disarm }
        :: !leaver_gone
        fi;
#endif
#ifdef GONG_AFTER_ARM
        heard = heard | BIT(me);
#endif
#ifdef NAPS
        if
        :: atomic { !napped -> napped = 1; alarm_set(me);
            if
            :: word != seen -> goto awake
            :: word == seen
            fi };
            if
            :: atomic { heard & BIT(me) -> queue_on(GONG, me); heard = heard & ~BIT(me) }
            :: atomic { !(heard & BIT(me)) -> goto awake }
            fi;
            if
            :: atomic { woken & BIT(me) -> goto awake }
#ifndef NAP_FOREVER
            :: atomic { me < IMPATIENT && !(woken & BIT(me)) -> timed_out = 1; goto awake }
            :: atomic { !(woken & BIT(me)) -> goto awake }
#endif
            fi
        :: napped
        fi;
#endif
#ifdef ONE_STEP
        atomic {
#endif
#if !defined(IN_WORD) && !defined(NO_COMPARE_GONG)
        if
        :: atomic { heard & BIT(me) -> queue_first(); heard = heard & ~BIT(me) }
        :: atomic { !(heard & BIT(me)) -> goto awake }
        fi;
#else
        queue_first();
#endif
#if defined(LEAVER) && !defined(NO_LIFE)
        atomic {
            if
            :: leaver_died -> goto awake
            :: !leaver_died && !marked -> queue_on(LIFE, me)
            :: else
            fi
        };
#endif
#ifndef ALARM_QUEUED_LAST
        queue_on(ALARM, me);
#endif
#ifdef IN_WORD
        if
        :: atomic { armed && word == seen -> seen = 0 }
#ifdef NO_COMPARE_BIT
        :: atomic { !armed && word == seen -> seen = 0 }
#endif
        :: atomic { else -> goto awake }
        fi;
#elif !defined(NO_COMPARE_WORD)
        if
        :: atomic { word != seen -> goto awake }
        :: atomic { word == seen -> seen = 0 }
        fi;
#else
        seen = 0;
#endif
#ifdef ALARM_QUEUED_LAST
        queue_on(ALARM, me);
#endif
#ifdef ONE_STEP
        skip
        };
#endif
end_asleep:
        if
        :: atomic { woken & BIT(me) ->
#ifdef TIMEOUT_BEFORE_WAKE
            if
            :: me < IMPATIENT -> goto leave
            :: true
            fi
#endif
            }
        :: atomic { me < IMPATIENT && !(woken & BIT(me)) -> timed_out = 1 }
#ifndef NO_LIFE
        :: leaver_died && !(woken & BIT(me))
#endif
        fi;
awake:
        apart;
        atomic {
            seen = 0;
            heard = heard & ~BIT(me);
#ifdef ALARM_CLEAR_EARLY
            alarm_clear(me);
#endif
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto disarm
            fi
        };
#ifndef NO_RALLY
        rally_by_gong();
#endif
disarm:
        apart;
        atomic {
            seen = 0;
            heard = heard & ~BIT(me);
#ifndef IN_WORD
            if
#ifdef DISARM_OTHERS
            :: fresh & BIT(me) -> armed = 0; fresh = 0
#elif defined(DISARM_LATER)
            :: alone -> armed = 0; fresh = 0
#else
            :: alone && (fresh & BIT(me)) -> armed = 0; fresh = 0
#endif
            :: else
            fi;
#endif
            fresh = fresh & ~BIT(me);
            alone = 0;
            if
            :: leaver_gone -> goto leave
            :: else -> goto look
            fi
        };
leave:
        atomic { unqueue(me); alarm_clear(me); gone = gone | BIT(me) }
    } unless { die(me) };
end_gone:
    false
}

#define asleep (sleeping & ~killed)

init
{
    byte p;

    atomic {
        do
        :: p < WAITERS -> run waiter(p); p++
        :: p >= WAITERS && p < WAITERS + WAKERS -> run waker(p); p++
#ifdef LEAVER
        :: p == N - 1 -> run leaver(p); p++
#endif
        :: p >= N -> break
        od;
        run killer()
    }
    timeout;
    assert(!asleep || items == 0);
    assert(!asleep || armed);
    assert(!asleep || !leaver_gone)
}
