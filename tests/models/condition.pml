/* SPDX-License-Identifier: MIT */
/*
 * The condition (sync/condition.h): no notification is lost, and nobody who was notified sleeps on.
 *
 *   waiter     covey_condition_wait(): come(), wait_for_signal() with sleep_at() and cv_wait_sleep(), which
 *              watches the lives of those that are NOTIFIED; giving up; the lock again
 *   notifier   covey_condition_notify(), with the lock: notify_one() with complete(), look(),
 *              is_notified(), is_wasted()
 *   burier     cv_member_bury_all() by somebody who has nothing to do with it, without the lock
 *   all        cv_condition_pass_on(), by who finds a dead one while it waits, or takes over his lock
 *
 * A killed process marks its lives, then rings the alarm, and is proved dead later (LATE). The lock is
 * one step: it is taken when it is free or its holder proved dead; lock.pml has it in full. So nobody
 * sleeps for it here, and none of its sleepers takes the alarm. Falling asleep is one step, too: wait.pml.
 * One bit of the count is in the word, where the C code has 14, and so it soon comes again.
 *
 * The account. A notification is made by a notifier's commit, if the one it is for still waits and is
 * not proved dead; else when it is completed. It is no more if he gives up before that: the notifier then
 * chooses another (if it was killed, the next holder of the lock is told of that). It is received by
 * who goes on, the lock taken. Those of buriers, and those for one that was wasted, are the same one
 * again. It goes nowhere if a burier finds nobody who waits. Then,
 *
 *  - when all is over, and somebody living sleeps, no more were made than received, or went nowhere;
 *    and nobody living sleeps that is NOTIFIED;
 *  - no more are received than made, except if two have passed on the same, or one and again after a
 *    kill; or if whom a notifier or burier has just notified had gone on, was buried, or was ending before
 *    it looked;
 *  - a wait is NOTIFIED only if the word names it, and has not been changed since;
 *  - the dead are buried only when a notification made for them while they lived is complete;
 *  - a notifier stops before it has made as many as asked for only if nobody living waits;
 *  - every run ends.
 *
 * Left out: spinning; hooks (away); records and slots that are used again, so the owner is a bit; other
 * conditions, so the place is one as well; burials as a part of operations with another alarm; a wait with
 * no time at all.
 *
 * Without a mutant: that the dead are passed over by who notifies, and that the ending are chosen last. Who
 * is dead is ending, too, and if he is chosen nevertheless, is_wasted() finds it: the next one is notified
 * as well. So these only save notifications.
 */
#ifndef WAITERS
#define WAITERS   2
#define NOTIFIERS 1 /* each notifies once, */
#define NOTES     1 /* as many as that */
#define BURIERS   0 /* each buries one of the dead */
#define TWICE     9 /* the one that waits TIMES times, the others once; 9: none */
#define TIMES     2
#define IMPATIENT 0 /* as many of the waiters */
#define KILLS     1
#endif
/*
 * IN_TURN: the waiters come in the order of their numbers, and the first notifier when all of them
 * sleep, or, AWAKE, have come.
 */
#define N       (WAITERS + NOTIFIERS + BURIERS)
#define WORDS   (1 + 2 * WAITERS)
#define GONG(p) (1 + (p))
#define LIFE(p) (1 + WAITERS + (p)) /* the sleepers that watch its life */
#define LIVES
#define LATE

#include "kernel.pml"

/* A signal */
#define NOTHING  0
#define WAITING  1
#define NOTIFIED 2
#define PHASES   3
#define SLEEPS   4
#define ONE_WAIT 8

#define phase(s) ((s) & PHASES)
#define count(s) ((s) / ONE_WAIT)

byte lock;    /* who holds it, + 1 */
byte number;  /* the lower half of the condition's word, */
byte aim;     /* and the upper one: for whom, with one bit of the count */
byte turns;   /* as many as have come */
byte signal[WAITERS];
byte turn[WAITERS];
byte placed;  /* those that have come to the condition */
byte buried;  /* those whose records are free again */
byte marked;  /* those whose life words the kernel has marked */

#ifdef NO_COUNT
#define make_aim(p, s) (p)
#else
#define make_aim(p, s) ((p) | (count(s) & 1) << 2)
#endif
#define aimed_at(a) ((a) & 3)

#define proved       (killed & gone)
#define is_ending(p) ((marked & BIT(p)) != 0)
#define is_here(p)   ((placed & ~buried & BIT(p)) && phase(signal[p]) != NOTHING)

/* The lock beneath: part of a step */
#define lock_is_free (lock == 0 || (proved & BIT(lock - 1)))
#define can_bury(p)  (placed & proved & ~buried & BIT(p))

#ifdef IN_TURN
#define is_in(set, p) ((((set) | killed | gone) & (BIT(p) - 1)) == BIT(p) - 1)
#ifdef AWAKE
#define all_wait is_in(placed, WAITERS)
#else
#define all_wait is_in(sleeping, WAITERS)
#endif
#define may_begin (me < WAITERS -> is_in(placed, me) : number || all_wait)
#else
#define may_begin true
#endif

#define BEGINS 0
#define WAITS  1
#define ENDS   2
#define LEAVES 3

inline take_lock()
{
    dead = (lock && lock <= WAITERS && !(buried & BIT(lock - 1)) -> lock : 0);
    lock = me + 1
}

/* For the properties only. */
byte named;      /* for whose wait the word is, as long as it is not complete: a set */
bit by_notifier; /* the word is no burier's */
byte owed;       /* what a commit is, see below */
bit delivered;   /* the last commit of a notifier */
short debt;      /* notifications made, less those received */
byte nowhere;    /* those that nobody waited for when they were to be passed on */
byte passing;    /* those whose burier has begun to notify another */
bit excused;     /* there may have been one too many */

#define NOT_OWED 0 /* one more, for another one, or complete */
#define COUNTED  1
#define TO_COUNT 2 /* when it is complete, for he was dead already */

/* Nobody who lives waits, and nobody can come. */
inline check_none()
{
    r = 0;
    do
    :: r < WAITERS -> assert(!alive(r) || !(placed & BIT(r)) || phase(signal[r]) != WAITING); r++
    :: else -> break
    od;
    r = 0
}

/* What it knows of others, when it has done with that: fewer states */
inline forget_search()
{
    old = 0; oldest = 0; its = 0; its_end = 0; wasted = 0
}

inline forget_seen()
{
    seen = 0; seen_number = 0; watch = 0; found_dead = 0
}

inline forget()
{
    forget_search();
    forget_seen();
    r = 0; m = 0; to = 0; s = 0; t = 0; its_turn = 0
}

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        if
        :: p < WAITERS -> woken = woken | queued[LIFE(p)]; queued[LIFE(p)] = 0
        :: else
        fi;
        forget(); left = 0; dead = 0; was = 0; timed_out = 0; stage = 0; notes = 0
    }
}

/* Notifying ********************************************************************************** */

inline commit()
{
    number++;
    aim = make_aim(oldest - 1, its);
    named = (signal[oldest - 1] - (signal[oldest - 1] & SLEEPS) == its - (its & SLEEPS) ->
        BIT(oldest - 1) : 0);
    by_notifier = !dead;
    delivered = delivered && dead;
    owed = (dead || wasted -> NOT_OWED : (!named || (named & proved) -> TO_COUNT : COUNTED));
    debt = debt + (owed == COUNTED);
    wasted = 0
}

/* Part of the step that makes a wait NOTIFIED */
inline deliver(p)
{
    assert(number == m && (named & BIT(p)));
    named = 0;
    delivered = delivered || by_notifier;
    debt = debt + (owed == TO_COUNT);
    owed = NOT_OWED
}

/* Part of the step that ends a wait that was not NOTIFIED */
inline miss(p)
{
    debt = debt - ((named & BIT(p)) && owed == COUNTED);
    owed = ((named & BIT(p)) -> NOT_OWED : owed);
    named = named & ~BIT(p)
}

#ifdef NO_WORD_AGAIN
#define has_changed(m) false
#else
#define has_changed(m) (number != m)
#endif

/* @m, @to: the word; @s: the signal */
inline complete()
{
    if
    :: atomic { number == 0 }
    :: atomic { number -> m = number; to = aim };
        s = signal[aimed_at(to)];
        do
        :: atomic { phase(s) != WAITING || make_aim(aimed_at(to), s) != to ||
            !(placed & BIT(aimed_at(to))) || has_changed(m) ->
                m = 0; to = 0; s = 0; break }
        :: atomic { else };
            if
            :: atomic { signal[aimed_at(to)] != s -> s = signal[aimed_at(to)] }
            :: atomic { signal[aimed_at(to)] == s ->
                deliver(aimed_at(to));
                signal[aimed_at(to)] = s + NOTIFIED - WAITING;
                m = 0;
                if
                :: s & SLEEPS
                :: else -> to = 0; s = 0; break
                fi };
#ifdef NO_WAKE
                atomic { to = 0; s = 0 };
#else
                atomic { wake_all(GONG(aimed_at(to))); to = 0; s = 0 };
#endif
                break
            fi
        od
    fi
}

/* look_at() each of them; @oldest is its number + 1 */
inline look(sleeps)
{
    do
    :: atomic { r < WAITERS && !is_here(r) -> r++ }
    :: atomic { r < WAITERS && is_here(r) -> s = signal[r]; t = turn[r] };
        atomic {
            if
#ifdef NO_BURY
            :: !(sleeps) && (proved & ~buried & BIT(r))
#else
            :: proved & ~buried & BIT(r) -> found_dead = sleeps
#endif
            :: else ->
                if
                :: phase(s) == NOTIFIED -> watch = watch | (sleeps && r != me -> BIT(r) : 0)
                :: phase(s) == WAITING && !(sleeps) &&
                    (!oldest || (is_ending(r) == its_end -> t < its_turn : its_end)) ->
                    oldest = r + 1;
                    its = s;
                    its_turn = t;
                    its_end = is_ending(r)
                :: else
                fi
            fi;
            r++;
            s = 0;
            t = 0
        }
    :: atomic { r == WAITERS -> r = 0; its_turn = 0; break }
    od
}

/******************************************************************************************** */

proctype process(byte me)
{
    byte i, n;
    byte m, to, s;                    /* complete() */
    byte r, t, oldest, its, its_turn; /* look() */
    bit its_end;
    byte old;                         /* notify_one(): the number */
    bit wasted;                       /* the last one */
    byte notes;                       /* how many are still to be notified */
    byte dead, was;                   /* whom it buries, + 1, and his signal */
    byte stage;                       /* where it goes on when it has buried */
    byte seen, seen_number, watch;    /* before it sleeps */
    bit timed_out, found_dead;
    byte left = (me == TWICE -> TIMES : 1);

    {
        goto begin;
begin:
        apart;
        if
        :: atomic { me >= WAITERS + NOTIFIERS ->
end_burier:
            can_bury(0) || can_bury(1) -> stage = LEAVES; dead = (can_bury(0) -> 1 : 2); goto pass_on }
        :: atomic { me < WAITERS + NOTIFIERS && lock_is_free && may_begin -> left--; take_lock() };
            if
            :: dead -> goto pass_on
            :: else
            fi
        fi;
has_lock:
        apart;
        if
        :: atomic { me >= WAITERS ->
#ifndef NO_ALARM_NOTIFIER
            alarm_set(me);
#endif
            notes = NOTES;
            goto notify_one }
        :: atomic { me < WAITERS ->
#ifndef NO_ALARM_WAITER
            alarm_set(me);
#endif
            /* come() */
            seen = count(signal[me]) * ONE_WAIT + ONE_WAIT + WAITING;
#ifndef NO_PASS_OVER
            seen = seen + (number && make_aim(me, seen) == aim -> ONE_WAIT : 0)
#endif
            }
        fi;
        atomic { turns++; turn[me] = turns; signal[me] = seen; seen = 0 };
        placed = placed | BIT(me);
        atomic { lock = 0; stage = WAITS };

        /* wait_for_signal() */
wait:
        seen = signal[me];
        if
        :: atomic { phase(seen) == NOTIFIED ->
            seen = 0;
            timed_out = 0;
#ifdef ALARM_CLEAR_EARLY
            alarm_clear(me);
#endif
            goto lock_again }
        :: atomic { phase(seen) == WAITING && timed_out ->
            if
#ifndef GIVE_UP_BY_STORE
            :: signal[me] != seen -> goto wait
#endif
            :: else
            fi;
            miss(me);
            signal[me] = seen - WAITING;
            seen = 0;
            timed_out = 0;
            goto lock_again }
        :: atomic { phase(seen) == WAITING && !timed_out ->
            if
            :: seen & SLEEPS
            :: !(seen & SLEEPS) && signal[me] != seen -> goto wait
            :: else -> seen = seen | SLEEPS; signal[me] = seen
            fi }
        fi;
        /* sleep_at() */
        seen_number = number;
#ifndef NO_COMPLETE_BY_SLEEPER
        complete();
#endif
        look(1);
        atomic {
            if
            :: found_dead -> forget_seen(); goto bury
            :: watch & proved -> goto after
#ifndef NO_COMPARE_SIGNAL
            :: !found_dead && !(watch & proved) && signal[me] != seen -> goto after
#endif
#ifndef NO_COMPARE_NUMBER
            :: !found_dead && !(watch & proved) && number != seen_number -> goto after
#endif
            :: else
            fi;
            seen = 0;
            seen_number = 0;
            queue_on(GONG(me), me);
            queue_on(ALARM, me);
#ifdef NO_LIVES
            watch = 0;
#endif
            i = 0;
            do
            :: i < WAITERS && (watch & ~marked & BIT(i)) -> queue_on(LIFE(i), me); i++
            :: i < WAITERS && !(watch & ~marked & BIT(i)) -> i++
            :: else -> break
            od;
            i = 0;
            sleeping = sleeping | BIT(me)
        };
end_asleep:
        if
        :: woken & BIT(me)
        :: atomic { me < IMPATIENT && !(woken & BIT(me)) -> timed_out = 1 }
        :: atomic { !(woken & BIT(me)) && (watch & proved) }
        fi;
        atomic {
            if
            :: alarmed & BIT(me) -> unqueue(me)
            :: else -> unqueue(me); goto after
            fi
        };
#ifndef NO_RALLY
        rally();
#endif
after:
        apart;
        atomic { timed_out = timed_out && !(watch & proved); forget_seen(); goto wait };

        /* Burying all that are there, one by one */
bury:
        apart;
        if
        :: atomic { can_bury(0) -> dead = 1 }
#if WAITERS > 1
        :: atomic { can_bury(1) && !can_bury(0) -> dead = 2 }
#endif
#if WAITERS > 2
        :: atomic { can_bury(2) && !can_bury(1) && !can_bury(0) -> dead = 3 }
#endif
        :: atomic { else -> goto wait }
        fi;

        /* cv_condition_pass_on() */
pass_on:
#ifndef NO_ALARM_BURIER
        alarm_set(me);
#endif
again:
        apart;
#ifndef NO_COMPLETE_BY_BURIER
        if
        :: placed & BIT(dead - 1) -> complete()
        :: else
        fi;
#endif
        was = signal[dead - 1];
        if
        :: atomic { phase(was) == NOTHING || (buried & BIT(dead - 1)) -> goto free_record }
#ifndef NO_PASS_ON
        :: atomic { phase(was) == NOTIFIED && !(buried & BIT(dead - 1)) && (placed & BIT(dead - 1)) ->
            excused = excused || (passing & BIT(dead - 1));
            passing = passing | BIT(dead - 1);
            goto notify_one }
#endif
        :: atomic { else }
        fi;
passed_on:
        apart;
        if
        :: atomic { signal[dead - 1] != was -> goto again }
        :: atomic { signal[dead - 1] == was ->
            assert(!(named & BIT(dead - 1)) || owed != COUNTED);
            miss(dead - 1);
            signal[dead - 1] = was - phase(was) }
        fi;
free_record:
        apart;
        if
        :: atomic { true ->
            buried = buried | BIT(dead - 1);
            dead = 0;
            was = 0;
            if
            :: stage == WAITS -> goto bury
            :: else -> alarm_clear(me)
            fi;
            if
            :: stage == BEGINS -> goto has_lock
            :: stage == ENDS -> goto release
            :: stage == LEAVES -> goto leave
            fi }
        fi;

        /* Going on */
lock_again:
        apart;
        if
        :: atomic { lock_is_free -> take_lock() }
        fi;
        atomic {
            debt = debt - (phase(signal[me]) == NOTIFIED);
            assert(excused || debt >= 0);
            signal[me] = count(signal[me]) * ONE_WAIT
        };
        atomic {
            placed = placed & ~BIT(me);
            alarm_clear(me);
            stage = ENDS;
            if
            :: dead -> goto pass_on
            :: else -> goto release
            fi
        };

        /* notify_one() */
notify_one:
        old = number;
#ifndef NO_COMPLETE_FIRST
        complete();
#endif
        look(0);
        atomic {
            if
            :: oldest && number == old -> commit()
            :: oldest && number != old -> forget_search(); goto notify_one
            :: !oldest && !dead -> forget_search(); check_none(); notes = 0; alarm_clear(me); goto release
            :: !oldest && dead -> forget_search(); nowhere++; goto passed_on
            fi
        };
        complete();
        if
#ifndef NO_IS_NOTIFIED
        :: atomic {
            count(signal[oldest - 1]) != count(its) || phase(signal[oldest - 1]) != NOTIFIED ->
                excused = excused || (dead -> number != old + 1 || !named : delivered);
                forget_search();
                wasted = !dead && delivered;
                goto notify_one }
#endif
        :: atomic { else -> its = 0 }
        fi;
        if
#ifndef NO_IS_WASTED
        :: atomic { !its_end && is_ending(oldest - 1) ->
            excused = 1;
            forget_search();
            wasted = 1;
            goto notify_one }
#endif
        :: atomic { else ->
            forget_search();
            if
            :: dead -> goto passed_on
            :: else
            fi;
            assert(delivered);
            notes--;
            if
            :: notes -> goto notify_one
            :: else -> alarm_clear(me); goto release
            fi }
        fi;

release:
        lock = 0;
        atomic {
            stage = BEGINS;
            if
            :: left > 0 -> goto begin
            :: else -> goto leave
            fi
        };
leave:
        apart;
        atomic { stage = BEGINS; gone = gone | BIT(me) }
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
        :: p < N -> run process(p); p++
        :: p >= N -> break
        od;
        p = 0;
        run killer()
    }
    timeout;
    assert(!asleep_now || debt <= nowhere);
    do
    :: p < WAITERS ->
        assert(!(asleep_now & BIT(p)) || phase(signal[p]) != NOTIFIED);
        p++
    :: else -> break
    od
}
