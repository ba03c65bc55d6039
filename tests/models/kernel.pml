/* SPDX-License-Identifier: MIT */
/*
 * What the models need of the kernel: sleeping on words (os/futex.h), and what it does for the dead
 * (os/robust.h). Included by each model, which defines
 *
 *   N       how many processes there are, with the numbers from 0: 6 at most
 *   WORDS   how many words are slept on; number 0 is the alarm
 *   KILLS   how many processes may be killed
 *   LIVES   if lives are watched; then life_ends(p) is what happens to the life words of the dead
 *   LATE    if the proof of a death may come later than its alarm
 *
 * What is true of the kernel and matters here:
 *  - futex_waitv() compares and queues word by word. A sleeper stays queued on its other words when
 *    one is woken, until it runs; a wake counts before a timeout, and the alarm, which is the last
 *    of the words, before others.
 *  - A wake of one may go to any sleeper.
 *  - The killed are still queued for a while, and may swallow wakes. Then they are not, and after
 *    that their pending word is looked at.
 *
 * What is not here: kernels without futex_waitv(), where every sleep ends after 20 ms, and signal
 * handlers, which end a sleep as a timeout does: not if there was a wake.
 *
 * In all models memory is sequentially consistent. That the C code asks for enough order is not
 * their concern.
 */
#define ALARM  0
#define BIT(p) (1 << (p))

byte queued[WORDS]; /* for each word, the set of those that sleep on it */
byte woken;         /* those that have been woken and have not run yet */
byte alarmed;       /* by the alarm, of these */
byte pending;       /* those whose pending word is the alarm */
byte killed;
byte gone;     /* the dead, when the kernel is done with them, and those that ended by themselves */
byte sleeping; /* those that are in futex_waitv() and have queued themselves on all words */

/* A step of its own, behind a label: a jump from one atomic sequence into another makes them one. */
#define apart skip

#define alive(p) (!((killed | gone) & BIT(p)))

/* cv_alarm_set(), cv_alarm_clear() */
#define alarm_set(p)   pending = pending | BIT(p)
#define alarm_clear(p) pending = pending & ~BIT(p)

inline wake_this(word, p)
{
    queued[word] = queued[word] & ~BIT(p);
    woken = woken | BIT(p);
    alarmed = alarmed | ((word) == ALARM -> BIT(p) : 0)
}

/* cv_futex_wake(word, 1); @n is how many it woke */
inline wake_one(word, n)
{
    atomic {
        n = 1;
        if
        :: queued[word] & BIT(0) -> wake_this(word, 0)
        :: queued[word] & BIT(1) -> wake_this(word, 1)
        :: queued[word] & BIT(2) -> wake_this(word, 2)
        :: queued[word] & BIT(3) -> wake_this(word, 3)
        :: queued[word] & BIT(4) -> wake_this(word, 4)
        :: queued[word] & BIT(5) -> wake_this(word, 5)
        :: queued[word] == 0 -> n = 0
        fi
    }
}

/* cv_futex_wake(word, INT_MAX) */
inline wake_all(word)
{
    d_step {
        woken = woken | queued[word];
        alarmed = alarmed | ((word) == ALARM -> queued[word] : 0);
        queued[word] = 0
    }
}

/*
 * rally(): who is woken by the alarm wakes all others, by other words that they sleep on: their gongs, or
 * the one beside the alarm. (wait.pml and bell.pml have it with gongs.) Were it the alarm itself
 * (RALLY_ON_ALARM), they would do the same, and two could wake each other for ever.
 */
inline rally()
{
#ifdef RALLY_ON_ALARM
    wake_all(ALARM)
#else
    woken = woken | queued[ALARM] /* who sleeps on the one sleeps on the other */
#endif
}

/* Part of a step of futex_waitv(): the word was as seen. */
inline queue_on(word, p)
{
    queued[word] = queued[word] | BIT(p)
}

/* Part of the step that ends futex_waitv(), for whatever reason. */
inline unqueue(p)
{
    sleeping = sleeping & ~BIT(p);
    woken = woken & ~BIT(p);
    alarmed = alarmed & ~BIT(p);
    i = 0;
    do
    :: i < WORDS -> queued[i] = queued[i] & ~BIT(p); i++
    :: else -> break
    od;
    i = 0
}

/* What becomes of a process that has been killed. When it is gone, that can be proved. */
inline die(p)
{
    d_step { killed & BIT(p) -> unqueue(p) };
#ifdef LIVES
    life_ends(p);
#endif
    atomic {
        if
        :: pending & BIT(p) -> wake_one(ALARM, n); n = 0
        :: else
        fi;
        n = 0;
#ifndef LATE
        gone = gone | BIT(p)
#endif
    };
#ifdef LATE
    gone = gone | BIT(p)
#endif
}

/* How many are killed is chosen first, who and when as it comes. */
proctype killer()
{
    byte kills;

    atomic {
        do
        :: kills < KILLS -> kills++
        :: break
        od
    };
end:
    do
    :: atomic { kills > 0 && alive(0) -> killed = killed | BIT(0); kills-- }
    :: atomic { kills > 0 && alive(1) -> killed = killed | BIT(1); kills-- }
    :: atomic { kills > 0 && alive(2) -> killed = killed | BIT(2); kills-- }
#if N > 3
    :: atomic { kills > 0 && alive(3) -> killed = killed | BIT(3); kills-- }
#endif
#if N > 4
    :: atomic { kills > 0 && alive(4) -> killed = killed | BIT(4); kills-- }
#endif
#if N > 5
    :: atomic { kills > 0 && alive(5) -> killed = killed | BIT(5); kills-- }
#endif
    od
}
