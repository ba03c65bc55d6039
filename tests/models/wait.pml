/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking (sync/wait.h): no wake is lost, whoever is killed, and when.
 *
 *   waker     what a waker does: cv_alarm_set(), its commit, cv_bell_ring() with
 *             cv_bell_ring_armed(), cv_alarm_clear()
 *   waiter    a look, cv_bell_arm(), cv_wait_sleep() with cv_futex_wait(), another look,
 *             cv_wait_end()
 *
 * A commit publishes one item and changes the word that waiters sleep on, in one store. Waiters note
 * the word, look for an item, take it by a compare-exchange, and come back for more; those that are
 * not patient may leave when they have slept, as after a timeout.
 *
 * The kernel compares and queues word by word. Until a sleeper is on the alarm as well, the wake of a
 * death passes him by; so what it compares must come after the alarm: the word that is woken, then
 * the alarm, then the bell and the word of the commit, which nobody wakes. (ALARM_QUEUED_LAST has
 * the bell woken itself, and the alarm behind all others.) With ONE_STEP, falling asleep is one step.
 *
 * With IN_WORD, the state of the bell is a bit of the word (sync/semaphore.h): who finds it quiet commits
 * only if it still is, and has no alarm; the waiter arms the word that he has seen.
 *
 * Left out: spinning, which only looks at the word, and lives (lock.pml).
 *
 * Shown: every run ends, and when it has ended no waiter that lives sleeps while there is an item,
 * or on a bell that is quiet.
 */
#ifndef WAITERS
#define WAITERS 3
#define WAKERS  2
#define COMMITS 2 /* of each waker */
#define KILLS   2
#define IMPATIENT 1 /* as many of the waiters */
#endif
#define N     (WAITERS + WAKERS)
#define WORDS 2
#define BELL  1 /* the other word that is slept on */

#include "kernel.pml"

#define ARMED 0
#define QUIET 1

byte bell = ARMED;
byte word;  /* as many as have been published */
byte items; /* published and not taken */

inline queue_first()
{
    d_step {
#ifndef NO_ALARM_WAITER
        alarm_set(me);
#endif
        queue_on(BELL, me);
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
            bell == QUIET ->
#endif
            left--; word++; items++; goto done }
        :: bell == ARMED
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
        if
        :: bell == ARMED ->
#ifdef QUIET_FIRST
            bell = QUIET;
#endif
            atomic {
                wake_one(BELL, n);
                if
                :: n > 0 -> n = 0; goto done
                :: else
                fi
            };
            bell = QUIET;
#ifndef NO_SECOND_WAKE
            wake_all(BELL)
#endif
        :: else
        fi;
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

proctype waiter(byte me)
{
    byte i, n;
    byte seen;
    bit timed_out;
#ifdef IN_WORD
    bit was_armed;
#endif

    {
        goto look;
look:
        apart;
        if
        :: atomic { items > 0 -> items--; alarm_clear(me); goto look } /* cv_wait_end() */
        :: atomic { items == 0 && timed_out -> goto leave }
        :: atomic { items == 0 && !timed_out -> seen = word;
#ifdef IN_WORD
            was_armed = (bell == ARMED)
#endif
            }
        fi;
#ifdef IN_WORD
        atomic {
            if
            :: was_armed
            :: !was_armed && word == seen && bell == QUIET -> bell = ARMED
            :: else -> was_armed = 0; seen = 0; goto look
            fi;
            was_armed = 0
        };
#elif !defined(NO_ARM)
        bell = ARMED;
#endif
#ifdef ONE_STEP
        atomic {
#endif
#ifndef ALARM_QUEUED_LAST
        queue_first();
        queue_on(ALARM, me);
#endif
#ifdef IN_WORD
        if
        :: atomic { bell == ARMED && word == seen -> seen = 0 }
#ifdef NO_COMPARE_BIT
        :: atomic { bell == QUIET && word == seen -> seen = 0 }
#endif
        :: atomic { else -> goto awake }
        fi;
#else
        if
#ifndef NO_COMPARE_BELL
        :: atomic { bell != ARMED -> goto awake }
        :: bell == ARMED
#else
        :: true
#endif
        fi;
#ifdef ALARM_QUEUED_LAST
        queue_first();
#endif
        if
#ifndef NO_COMPARE_WORD
        :: atomic { word != seen -> goto awake }
        :: atomic { word == seen -> seen = 0 }
#else
        :: atomic { true -> seen = 0 }
#endif
        fi;
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
        fi;
awake:
        apart;
        atomic {
            seen = 0;
#ifdef ALARM_CLEAR_EARLY
            alarm_clear(me);
#endif
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto look
            fi
        };
#ifndef NO_WAKE_OTHERS
        rally();
#endif
        goto look;
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
        :: p >= WAITERS && p < N -> run waker(p); p++
        :: p >= N -> break
        od;
        run killer()
    }
    timeout;
    assert(!asleep || items == 0);
    assert(!asleep || bell == ARMED)
}
