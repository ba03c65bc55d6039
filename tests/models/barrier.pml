/* SPDX-License-Identifier: MIT */
/*
 * The barrier (sync/barrier.c): all go on, or all are told that it is broken, and nobody waits for the dead.
 *
 *   party      covey_barrier_wait(), or with ACTS covey_barrier_wait_then(): come(), wait_for_all(),
 *              break_for_the_dead(), sleep_at() with cv_wait_sleep(), complete()
 *   outsider   covey_barrier_abort() or covey_barrier_reset()
 *
 * A party that is not at the barrier may stay away, having left or not, and so may one that acts stay in
 * its action, STAYS of them at most; else it ends in order when it has come ROUNDS times. While it acts,
 * its alarm is not pending. The impatient may give up when they sleep. A member's
 * death is as in lock.pml.
 *
 * A compare-exchange that is tried until it succeeds or need not is one step, and so are finding all who are
 * dead, and falling asleep: wait.pml has that in full.
 * Left out: threads that share a cell, and so how many of them have come; cells that are used again, or in
 * blocks; slots that are used again; rounds more than 16 ago, and so what a reset notes for them before
 * its commit; the reason; spinning; a timeout of 0; EINTR and its hook.
 *
 * Without a mutant, since nothing here needs them: that whoever changes the lower half takes the bit for
 * sleepers away, and that the bit is not set when the word has changed. They save system calls.
 *
 * Shown: a round is completed when all its parties have come and none was known to be dead before the last
 * one looked, and one of them is told that it was the last; a round is completed or broken, and that is
 * what all its parties are told; it breaks for those alone who died not in order and are there or
 * expected; every run ends, and when it has ended nobody who lives sleeps while it is broken, or while
 * one has died who has come, or was expected, or acts.
 */
#ifndef N
#define N         3
#define PARTIES   3
#define ROUNDS    2 /* how often each comes */
#define OUTSIDERS 0 /* as many of the last */
#define ACTS      0 /* 1: the last to come acts; 2: and may fail */
#define IMPATIENT 0 /* as many of the first */
#define STAYS     0
#define KILLS     1
#endif
#define WORDS   (2 + N)
#define GONG    1
#define LIFE(p) (2 + (p)) /* the sleepers that watch its life */
#define LIVES

#include "kernel.pml"

/* The word: the lower half, and arrived */
#define SLEEPERS 1
#define FILLING  0
#define ACTING   2
#define BROKEN   4
#define PHASE(w)   ((w) & 6)
#define ROUND(w)   ((w) >> 3 & 7)
#define LOW(w)     ((w) & 63)
#define ARRIVED(w) ((w) >> 6)
#define ARRIVAL    64

#define acting(w)     (((w) & ~7) | ACTING)
#define broken_of(w)  (((w) & ~7) | BROKEN)
#define next_round(w) (((w) & 56) + 8)

#define ROUND_FIRST 2
#define LEFT        8 /* in a cell, above the round */

byte word = ROUND_FIRST << 3;
byte past; /* the rounds that were not completed */
byte cell[N];
byte marks;   /* the cells that are somebody's */
byte marked;  /* those whose life words the kernel has marked */
byte orderly; /* those that have ended in order */
byte stays;
byte fresh; /* those that have seen @looks as it is */

/* For the properties only. */
byte done, broke; /* the rounds that were completed, and that broke */
byte led;         /* those of which somebody was told that he was the last */
byte inside;      /* those that have called and have not been told */
byte came;        /* those that have come in this round */
byte actor;       /* who has acted last */
byte part;        /* and in the one before, if it was completed */

#define n_set(set)   (((set) & 1) + ((set) >> 1 & 1) + ((set) >> 2 & 1) + ((set) >> 3 & 1))
#define is_left(p)   (cell[p] & LEFT)
#define missed(p)    (came | (is_left(p) -> 0 : part))

#define is_there(w, p) ((cell[p] & 7) == ROUND(w))
#ifdef NO_LEFT
#define says_expected(w, p) ((cell[p] & 7) + 1 == ROUND(w))
#else
#define says_expected(w, p) (cell[p] + 1 == ROUND(w))
#endif
#define is_expected(w, p) (says_expected(w, p) && !(past & BIT(cell[p] & 7)))

/* For fewer states. */
inline forget()
{
    now = 0;
    mine = 0;
    dead = 0;
    known = 0;
    watch = 0;
    said = 0;
    here = 0;
    timed_out = 0;
    broken = 0;
    fresh = fresh & ~BIT(me)
}

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0;
        forget();
        left = 0
    }
}

/* Steps, or parts of them; @n says if anybody may be sleeping ******************************** */

inline wake_sleepers()
{
    atomic {
        if
        :: n -> wake_all(GONG); n = 0
        :: else
        fi
    }
}

inline break_now()
{
    assert(!(done & BIT(ROUND(word))));
    broke = broke | BIT(ROUND(word));
#ifndef NO_WAKE_BREAK
    n = word & SLEEPERS;
#endif
    word = broken_of(word)
}

inline break_round(round)
{
    atomic {
        if
        :: ROUND(word) == round && PHASE(word) != BROKEN -> break_now(); broken = 1
        :: else
        fi
    };
    wake_sleepers()
}

/* The commit of the last to come */
inline complete_now()
{
    came = came | BIT(me);
    assert(n_set(came) == PARTIES && !(broke & BIT(mine)) && !(known & came));
    done = done | BIT(mine);
    part = came;
    came = 0;
    n = word & SLEEPERS;
    word = next_round(word)
}

inline reset()
{
    atomic {
        broke = broke | BIT(ROUND(word));
        past = past | BIT(ROUND(word));
        came = 0;
        part = 0;
        n = word & SLEEPERS;
        word = next_round(word)
    };
    wake_sleepers()
}

#if defined(NO_EXPECTED)
#define is_missing(w, p) is_there(w, p)
#elif defined(NO_ORDERLY)
#define is_missing(w, p) (is_there(w, p) || is_expected(w, p))
#else
#define is_missing(w, p) (is_there(w, p) || (is_expected(w, p) && !(orderly & BIT(p))))
#endif

/* break_for(), one of the dead: by the word as it is */
inline break_for(p)
{
    if
#ifdef OLD_WORD
    :: is_missing(now, p) ->
#else
    :: is_missing(word, p) ->
#endif
        broken = 1;
        if
        :: PHASE(word) != BROKEN ->
            assert(killed & BIT(p) & (inside | missed(p)));
            break_now()
        :: else
        fi
    :: else
    fi
}

inline lives_to_watch()
{
    atomic {
        i = (me + 1) % N;
        do
#ifndef NO_LIVES
        :: i != me && (marks & BIT(i)) && is_there(now, i) -> watch = watch | BIT(i); break
        :: i != me && (marks & BIT(i)) && is_expected(now, i) ->
            watch = watch | BIT(i);
#ifdef ONE_LIFE
            break
#else
            i = (i + 1) % N
#endif
#endif
        :: i == me -> break
        :: else -> i = (i + 1) % N
        od;
        i = 0
    }
}

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
    byte now;   /* the word */
    byte mine;  /* the round in which it has come */
    byte dead;  /* those of the dead whose cells it has to look at */
    byte known; /* those that had come and were dead when it looked; for the properties only */
    byte watch; /* the set of those whose lives it watches */
    byte left = ROUNDS;
    bit said; /* its cell says that it comes */
    bit here; /* it has come, and waits */
    bit timed_out, broken;

    {
        if
        :: me >= N - OUTSIDERS -> goto interfere
        :: me < N - OUTSIDERS
        fi;
away:
        apart;
        atomic {
            if
            :: left > 0 -> left--
            :: left == 0 -> goto in_order
            :: stays < STAYS -> stays++; goto stay
            fi;
#ifndef NO_ALARM
            alarm_set(me);
#endif
            marks = marks | BIT(me);
            inside = inside | BIT(me)
        };

come:
        apart;
        atomic {
            now = word;
            if
            :: PHASE(now) == BROKEN -> goto told
            :: PHASE(now) != BROKEN && timed_out -> goto one_too_many
            :: PHASE(now) == ACTING && !timed_out -> goto look_for_dead
            :: else
            fi;
#ifdef CELL_LATE
            goto raise
#else
            if
            :: cell[me] == ROUND(now) -> goto raise
            :: else
            fi
#endif
        };
        atomic { n = is_expected(now, me); cell[me] = ROUND(now); said = 1 };
        atomic {
#ifndef COME_UNSEEN
            fresh = (n -> fresh : 0);
#endif
            n = 0
        };
raise:
        apart;
        atomic {
            if
            :: ARRIVED(now) + 1 == PARTIES -> goto look_for_dead
            :: else
            fi;
            if
            :: word == now ->
                word = word + ARRIVAL;
                came = came | BIT(me);
                mine = ROUND(now);
                here = 1;
                said = 0;
                timed_out = 0
            :: else -> goto come
            fi
        };
#ifdef CELL_LATE
        cell[me] = mine;
#endif

wait:
        apart;
        atomic {
            now = word;
            if
            :: ROUND(now) != mine ->
#ifdef NO_PAST
                assert(done & BIT(mine));
#else
                assert((past & BIT(mine) -> broke : done) & BIT(mine));
#endif
                goto told
            :: ROUND(now) == mine && PHASE(now) == BROKEN -> goto told
            :: ROUND(now) == mine && PHASE(now) != BROKEN && !timed_out -> goto look_for_dead
            :: else
            fi
        };
        break_round(mine);
        atomic {
#ifndef TIMEOUT_ANYWAY
            if
            :: !broken -> goto wait
            :: else
            fi;
#endif
            assert(broke & BIT(mine));
            goto told
        };

        /* break_for_the_dead(), then to sleep or, for the last one, to complete */
look_for_dead:
        apart;
        atomic {
            fresh = (!here && PHASE(now) == FILLING -> fresh : fresh | BIT(me));
#ifdef NO_LOOK_LAST
            dead = (!here && PHASE(now) == FILLING -> 0 : gone & marks);
#else
            dead = gone & marks;
#endif
            known = (!here && PHASE(now) == FILLING -> gone & came : 0);
            if
            :: dead == 0 -> goto looked
            :: else
            fi
        };
        do
        :: atomic { dead ->
            do
            :: !(dead & BIT(i)) -> i++
            :: else -> break
            od
#ifndef FREE_FIRST
            };
            atomic {
#else
            ;
            marks = marks & ~BIT(i) };
            atomic {
#endif
            break_for(i) };
            wake_sleepers();
            atomic { marks = marks & ~BIT(i); dead = dead & ~BIT(i); i = 0 }
        :: atomic { !dead -> goto looked }
        od;
looked:
        apart;
        atomic {
            if
            :: broken -> goto again
            :: !broken && !here && PHASE(now) == FILLING -> goto last
            :: else
            fi
        };
        lives_to_watch();
        atomic {
            if
            :: LOW(word | SLEEPERS) != LOW(now | SLEEPERS) -> goto again
            :: else -> word = word | SLEEPERS; now = now | SLEEPERS
            fi
        };
        atomic {
            if
            :: watch & gone -> goto after
            :: else
            fi;
            if
            :: false
#ifndef NO_COMPARE_WORD
            :: LOW(word) != LOW(now) -> goto after
#endif
#ifndef NO_COMPARE_LOOKS
            :: !(fresh & BIT(me)) -> goto after
#endif
            :: else
            fi;
            now = 0;
            fresh = fresh & ~BIT(me);
            queue_on(GONG, me);
            queue_on(ALARM, me);
            watch_lives();
            sleeping = sleeping | BIT(me)
        };
end_asleep:
        if
        :: atomic { alarmed & BIT(me) -> unqueue(me) }
        :: atomic { woken & ~alarmed & BIT(me) -> unqueue(me); goto after }
        :: atomic { me < IMPATIENT && !(woken & BIT(me)) -> unqueue(me); timed_out = 1; goto after }
        :: atomic { !(woken & BIT(me)) && (watch & gone) -> unqueue(me); goto after }
        fi;
#ifndef NO_RALLY
        rally();
#endif
after:
        apart;
        atomic {
            if
            :: watch & gone -> timed_out = 0
            :: else
            fi;
again:
            fresh = fresh & ~BIT(me);
            now = 0;
            watch = 0;
            known = 0;
            broken = 0;
            if
            :: here -> goto wait
            :: else -> goto come
            fi
        };

one_too_many:
        apart;
        atomic {
            if
            :: !said -> goto told
            :: else
            fi
        };
#ifndef NO_UNSAY
        cell[me] = 0;
#endif
#ifndef GO_UNSEEN
        fresh = 0;
#endif
#ifndef GO_SILENTLY
        n = word & SLEEPERS;
        wake_sleepers();
#endif
        goto told;

        /* complete() */
last:
        apart;
        atomic {
            if
#ifndef COMPLETE_BY_STORE
            :: word != now -> goto again
#endif
            :: else
            fi;
            mine = ROUND(now);
            said = 0;
            if
            :: ACTS ->
                n = word & SLEEPERS;
                word = acting(word + ARRIVAL);
                came = came | BIT(me);
                actor = me
            :: !ACTS -> complete_now(); goto completed
            fi
        };
#ifndef NO_WAKE_ACTING
        wake_sleepers();
#endif
        atomic {
            n = 0;
            alarm_clear(me);
            if
            :: stays < STAYS -> stays++; goto end_away
            :: true
            fi
        };
        atomic {
#ifndef NO_ALARM_ACTED
            alarm_set(me);
#endif
            if
            :: ACTS == 2 -> goto failed
            :: true
            fi
        };
        atomic {
            if
#ifdef NO_RETRY
            :: word == acting(now + ARRIVAL) ->
#elif defined(NO_COMPARE_ROUND)
            :: PHASE(word) == ACTING ->
#else
            :: PHASE(word) == ACTING && ROUND(word) == mine ->
#endif
                complete_now()
            :: else -> assert(broke & BIT(mine)); goto told
            fi
        };
completed:
        wake_sleepers();
        atomic {
            assert((done & BIT(mine)) && !(led & BIT(mine)));
            led = led | BIT(mine);
            goto told
        };
failed:
        break_round(mine);

told:
        apart;
        atomic {
            assert(mine == 0 || ((done | broke) & BIT(mine)));
            forget();
            alarm_clear(me);
            inside = inside & ~BIT(me);
            goto away
        };

interfere:
        alarm_set(me);
        if
        :: mine = ROUND(word);
            break_round(mine)
        :: reset()
        fi;
        atomic { forget(); alarm_clear(me); goto in_order };

stay:
        apart;
        if
        :: cell[me] = cell[me] | LEFT
        :: true
        fi;
end_away:
        false;
in_order:
        apart;
        atomic {
            orderly = orderly | BIT(me);
            gone = gone | BIT(me);
            life_ends(me);
            goto end_gone
        }
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
        run killer()
    }
    timeout;
    assert(!asleep_now || (PHASE(word) == FILLING && !(asleep_now & ~came)) ||
           (PHASE(word) == ACTING && alive(actor)));
    p = 0;
    do
    :: p < N -> assert(!asleep_now || PHASE(word) == ACTING || !(killed & BIT(p) & missed(p))); p++
    :: else -> break
    od
}
