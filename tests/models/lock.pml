/* SPDX-License-Identifier: MIT */
/*
 * The robust lock (sync/lock.h): whoever holds it dies, the next one gets it, and nobody sleeps on.
 *
 *   process   covey_lock_acquire() with cv_lock_try() and cv_lock_take_slowly(), which sleeps by
 *             cv_wait_sleep() and watches the holder's life by cv_member_watch(); cv_wait_end();
 *             then covey_lock_release()
 *
 * Who slept for the lock and then takes it, or gives up, wakes the next sleeper: those that sleep
 * watch the life of who held the lock when they fell asleep, and one at least must watch the life of
 * who holds it now.
 *
 * A member is dead to others (cv_member_is_past()) when somebody has proved it, and provable some
 * time after its life word was marked; sleepers poll in between. Processes that are not patient may
 * give up when they have slept.
 *
 * Left out: spinning; slots that are used again; the sixteen life words being all taken, which means
 * polling; releasing what another holds. futex_waitv() is one step here: wait.pml has it word by
 * word.
 *
 * Shown: of the living one at most holds the lock; a holder's death is told exactly once, if
 * anybody comes; every run ends, and when it has ended nobody who lives sleeps.
 */
#ifndef N
#define N         3
#define ROUNDS    2 /* how often each takes the lock */
#define IMPATIENT 1 /* as many of the processes */
#define KILLS     2
#endif
/*
 * OTHER_RELEASES: process 0 does not release the lock, the last process does nothing but that.
 */
#define WORDS   (2 + N)
#define LOCK    1
#define LIFE(p) (2 + (p)) /* the sleepers that watch its life */
#define LIVES
#ifdef NO_LIFE
#define NO_POLL
#endif

#include "kernel.pml"

#define FLAG      8
#define HOLDER(w) ((w) & 7) /* its number + 1 */
#define BIT_OF(w) (BIT(HOLDER(w)) >> 1)

byte word;
byte marked; /* those whose life words the kernel has marked */
byte past;   /* those whose slot says that they are dead */

/* For the properties only. */
byte inside; /* those that hold the lock and go on */
byte died_inside;
byte told;

#define provable(w) (killed & gone & BIT_OF(w))

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0;
        died_inside = died_inside | (HOLDER(word) == p + 1 -> BIT(p) : 0)
    }
}

/* Part of the step that takes the lock: from @was, with the flag if @flag. */
inline take(was, flag)
{
    if
    :: HOLDER(was) ->
        assert(!(told & BIT_OF(was)) && (died_inside & BIT_OF(was)));
        told = told | BIT_OF(was)
    :: else
    fi;
    assert(!(inside & ~killed));
    inside = inside | BIT(me);
    word = (me + 1) | flag
}

proctype process(byte me)
{
    byte i, n;
    byte now;
    byte left = ROUNDS;
    bit slept, timed_out;

    {
        if
#ifdef OTHER_RELEASES
        :: me == N - 1 ->
end_idle:
            atomic { inside & BIT(0) & ~killed -> left = 0; goto release }
        :: me < N - 1
#else
        :: true
#endif
        fi;
begin:
        apart;
        atomic {
            left--;
            if
            :: word == 0 -> take(0, 0); goto taken
            :: else
            fi
        };
look:
        now = word;
        if
        :: atomic { HOLDER(now) == 0 || (past & BIT_OF(now)) ->
#ifndef TAKE_BY_STORE
            if
            :: word != now -> goto look
            :: else
            fi
#endif
            };
            atomic {
#ifndef TAKE_BY_STORE
            if
            :: word != now -> goto look
            :: else
            fi;
#endif
#ifdef NO_FLAG_AGAIN
            take(now, now & FLAG);
#elif defined(NO_FLAG_KEPT)
            take(now, (slept -> FLAG : 0));
#else
            take(now, ((now & FLAG) || slept -> FLAG : 0));
#endif
            now = 0;
            goto taken
            }
        :: atomic { else ->
            if
            :: timed_out -> goto quit
            :: else
            fi
            }
        fi;
        atomic {
            if
            :: word != now -> goto look
            :: else -> word = word | FLAG; now = word
            fi
        };
        /* cv_member_watch(): proved dead, to be polled for, or watched */
        atomic {
#ifndef NO_ALARM_WAITER
            alarm_set(me);
#endif
            slept = 1;
            if
            :: provable(now) -> past = past | BIT_OF(now); goto look
            :: else
            fi
        };
        atomic {
            if
#ifndef NO_COMPARE_WORD
            :: word != now -> goto awake
#endif
            :: else
            fi;
            queue_on(LOCK, me);
            queue_on(ALARM, me);
            sleeping = sleeping | BIT(me);
            if
            :: marked & BIT_OF(now)
#ifdef NO_LIFE
            :: else
#else
            :: else -> queue_on(LIFE(HOLDER(now) - 1), me)
#endif
            fi
        };
end_asleep:
        if
        :: atomic { woken & BIT(me) ->
#ifdef TIMEOUT_BEFORE_WAKE
            if
            :: me < IMPATIENT -> goto quit
            :: true
            fi
#endif
            }
        :: atomic { me < IMPATIENT && !(woken & BIT(me)) -> timed_out = 1 }
#ifndef NO_POLL
        :: provable(now) && !(queued[LIFE(HOLDER(now) - 1)] & BIT(me)) && !(woken & BIT(me))
#endif
        fi;
awake:
        apart;
        atomic {
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto after
            fi
        };
        rally();
after:
        apart;
        atomic {
            past = past | (provable(now) -> BIT_OF(now) : 0);
            goto look
        };

taken:
        apart;
        if
        :: slept ->
#ifndef NO_NEXT_BY_TAKER
            wake_one(LOCK, n);
#endif
            atomic { n = 0; slept = 0; timed_out = 0; alarm_clear(me) }
        :: !slept
        fi;
        /* it holds the lock */
#ifdef OTHER_RELEASES
        if
        :: me == 0 -> end_holding: false
        :: else
        fi;
#endif
release:
        apart;
        atomic {
#ifndef NO_ALARM_RELEASE
            alarm_set(me);
#endif
            now = word;
            word = 0;
#ifdef OTHER_RELEASES
            inside = inside & ~(BIT(0) | BIT(me))
#else
            inside = inside & ~BIT(me)
#endif
        };
        atomic {
            if
            :: now & FLAG -> wake_one(LOCK, n)
            :: else
            fi;
            now = 0;
            n = 0
        };
        atomic {
            alarm_clear(me);
            if
            :: left > 0 -> goto begin
            :: else -> gone = gone | BIT(me); goto end_gone
            fi
        };

quit:
        apart;
        atomic { unqueue(me); now = 0 };
#ifndef NO_NEXT_BY_QUITTER
        wake_one(LOCK, n);
#endif
        atomic { n = 0; alarm_clear(me); gone = gone | BIT(me) }
    } unless { die(me) };
end_gone:
    false
}

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
#ifdef OTHER_RELEASES
    assert(!(sleeping & ~killed) || (inside & ~killed & BIT(0)))
#else
    assert(!(sleeping & ~killed));
    assert(told == died_inside || (told | BIT_OF(word)) == died_inside)
#endif
}
