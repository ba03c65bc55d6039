/* SPDX-License-Identifier: MIT */
/*
 * Claims (msg/claims.c): an item is one process's at a time, none stays with the dead, and nobody waits for
 * what is done.
 *
 *   taker    covey_queue_get() with cv_queue_come_to_take(), see_empty(), wait_for_item(), cv_queue_claim();
 *            then cv_queue_end_claim(): the item is done, or, UNCLAIMS times, nobody's again; with mend_claim()
 *   joiner   covey_queue_join() with try_join()
 *
 *   producer covey_queue_put(), of the last item, with PUTS; the other ITEMS are there from the beginning
 *
 * END says that the queue is closed. With REDELIVERS, a dead
 * process's item is nobody's again, else it is done.
 *
 * A taker that LEAVES takes one item at most. The locks, the lives, and the bells are as in queue.pml and
 * rwlock.pml.
 *
 * Left out: spinning, producers that wait (who are rung for as the joiner is), priorities.
 *
 * Without a mutant, since none has failed in a size that can be searched: that who comes rings, and that
 * sleepers compare @claims_ended, which is counted first.
 *
 * Shown: nobody has the item of a process that lives, and only his claim makes it done; every run ends, and
 * when it has ended nobody who lives sleeps but a joiner, or one who waits for an END that does not
 * come, while there is no item for a taker that lives.
 */
#ifndef ITEMS
#define ITEMS    2
#define TAKERS   2
#define JOINERS  1
#define UNCLAIMS 0
#define LEAVES   9 /* this one; N: none */
#define END      1
#define PUTS     0 /* 1: a producer puts the last one */
#define KILLS    1
#endif
#define N       (TAKERS + JOINERS + PUTS)
#define WORDS   (3 + N)
#define GONG    1
#define BELLS   2
#define TAKE    0 /* the bells */
#define JOIN    1
#define LIFE(p) (3 + (p)) /* the sleepers that watch its life */
#define LIVES

#include "kernel.pml"
#include "bell.pml"

#define DONE 255

byte claim[ITEMS]; /* in the list: a process + 1, or 0; 0 before, and DONE after it */
byte head;         /* items from here on are in the chain */
byte free_claims; /* so many are nobody's */
byte ended;
byte there = ITEMS - PUTS;
byte get_lock; /* holder + 1 */
byte takers;   /* those who have come */
byte marked;
byte unclaims = UNCLAIMS;
byte ended_all; /* items that are done: of the model only */

#define proved       (killed & gone)
#define dead(holder) ((holder) && (proved & (BIT(holder) >> 1)))
#define is_of_dead(k) (claim[k] != DONE && dead(claim[k]))
#define all_done     (ended_all == there)
#define is_free(k)   (k < head && claim[k] == 0)

inline life_ends(p)
{
    d_step {
        marked = marked | BIT(p);
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0
    }
}

inline awake()
{
    atomic {
        if
        :: alarmed & BIT(me) -> unqueue(me); rally_all()
        :: else -> unqueue(me)
        fi
    }
}

/* The claim of a dead one whose item is in the chain still goes out of the list. */
inline enter()
{
    do
    :: atomic { get_lock == 0 -> get_lock = me + 1; break }
    :: atomic { dead(get_lock) -> get_lock = me + 1 };
#ifndef NO_MEND
        if
        :: head < ITEMS && claim[head] != 0 -> claim[head] = 0
        :: else
        fi;
#endif
#ifndef NO_COUNT
        atomic { free_claims = 0; i = 0;
            do
            :: i < ITEMS -> free_claims = free_claims + is_free(i); i++
            :: else -> i = 0; break
            od
        };
#endif
        break
    :: atomic { else -> queue_on(ALARM, me) };
        atomic { get_lock == 0 || dead(get_lock) || (alarmed & BIT(me)) -> awake() }
    od
}

inline give_back()
{
    free_claims++;
    claim[k] = 0;
    freed = 1
}

inline end_one()
{
    ended++;
    atomic { claim[k] = DONE; ended_all++; advanced = 1 }
}

/* reap_all(): the items of the dead */
inline reap()
{
    k = 0;
    do
    :: atomic { k < head && is_of_dead(k) -> skip };
#ifdef REDELIVERS
        give_back();
#else
        end_one();
#endif
        k++
    :: atomic { k < head && !is_of_dead(k) -> k++ }
    :: atomic { k >= head -> k = 0; break }
    od
}

inline leave_lock()
{
    atomic { advanced = advanced && all_done; get_lock = 0 };
#ifndef NO_RING_FREED
    if
    :: freed -> ring(TAKE, true)
    :: !freed
    fi;
#endif
    if
    :: advanced ->
#ifndef NO_RING_JOIN
        ring(JOIN, true);
#endif
#ifndef NO_RING_TAKE
        ring(TAKE, true);
#endif
        advanced = 0
    :: !advanced
    fi;
    freed = 0
}

inline watch_lives()
{
#ifndef NO_LIVES
    i = 0;
    do
    :: i < N && (watch & ~marked & BIT(i)) -> queue_on(LIFE(i), me); i++
    :: i < N && !(watch & ~marked & BIT(i)) -> i++
    :: else -> break
    od;
    i = 0
#else
    watch = 0
#endif
}

/* cv_wait_sleep(), with the alarm set */
inline sleep_on(b, is_as_seen)
{
    atomic {
        if
        :: !(watch & proved) && is_as_armed(b) && (is_as_seen) ->
            heard[b] = heard[b] & ~BIT(me);
            queue_on(GONG + b, me);
            queue_on(ALARM, me);
            watch_lives();
            sleeping = sleeping | BIT(me)
        :: else -> woken = woken | BIT(me)
        fi
    };
end_asleep:
    if
    :: atomic { woken & BIT(me) -> awake() }
    :: atomic { !(woken & BIT(me)) && (watch & proved) -> unqueue(me) }
    fi;
    atomic { disarm(b); watch = 0; seen = 0; k = 0 }
}

/* The reaping that takers do who have found nothing, and whom to watch. */
inline look_at_others()
{
#ifdef REDELIVERS
#ifndef WATCH_LATE
    watch = takers & ~proved & ~BIT(me);
#endif
#ifndef NO_REAP
    enter();
    reap();
    any = freed;
    leave_lock();
#endif
#ifdef WATCH_LATE
    watch = takers & ~proved & ~BIT(me);
#endif
    skip
#else
    skip
#endif
}

proctype taker(byte me)
{
    byte i, n, k, seen, place, watch;
    bit freed, advanced, any;

    {
        atomic { alarm_set(me);
            takers = takers | BIT(me)
        };
        ring(TAKE, true);
        ring(JOIN, true);
        goto again;
again:
        apart;
        atomic {
            if
            :: free_claims || head < there -> goto take
            :: else
            fi
        };
#ifndef REDELIVERS
        if
        :: atomic { END -> goto leave }
        :: else
        fi;
#endif
        atomic { arm(TAKE); seen = ended; place = head };
#ifdef REDELIVERS
        look_at_others();
        atomic {
            if
            :: any || free_claims || place < there ->
                any = 0; disarm(TAKE); watch = 0; seen = 0; goto again
            :: !any && !free_claims && place >= there && END && all_done ->
                disarm(TAKE); watch = 0; seen = 0; goto leave
            :: else
            fi
        };
#endif
#ifdef NO_COMPARE_FREE
        sleep_on(TAKE, ended == seen && there <= place);
#else
        sleep_on(TAKE, !free_claims && ended == seen && there <= place);
#endif
        goto again;

take:
        enter();
        atomic {
            k = (free_claims -> 0 : head);
            do
            :: k < head && claim[k] != 0 -> k++
            :: else -> break
            od
        };
        if
        :: k < head -> atomic { assert(claim[k] == 0); claim[k] = me + 1 };
            free_claims--
        :: else -> atomic { assert(!free_claims) };
            if
            :: atomic { head >= there -> get_lock = 0; k = 0; goto again }
            :: atomic { head < there -> assert(claim[head] == 0); claim[head] = me + 1 };
                head++
            fi
        fi;
        atomic { get_lock = 0; k = 0; alarm_clear(me) };
        /* cv_queue_end_claim() */
        alarm_set(me);
        enter();
        atomic {
            do
            :: k < head && claim[k] != me + 1 -> k++
            :: else -> break
            od;
            assert(k < head)
        };
        if
        :: atomic { unclaims > 0 -> unclaims-- };
            give_back()
        :: end_one()
        fi;
        k = 0;
        leave_lock();
        if
        :: me == LEAVES -> goto leave
        :: else -> goto again
        fi;
leave:
        atomic { alarm_clear(me); gone = gone | BIT(me); goto end_gone }
    } unless { die(me) };
end_gone:
    false
}

proctype joiner(byte me)
{
    byte i, n, k, seen, watch;
    bit freed, advanced, joined, twice;

    {
        alarm_set(me);
again:
        enter();
        watch = takers & ~proved;
        reap();
        atomic { seen = ended; joined = all_done };
        leave_lock();
        if
        :: atomic { joined -> disarm(JOIN); goto leave }
        :: atomic { !joined && !twice -> twice = 1; arm(JOIN); watch = 0; seen = 0; goto again }
        :: atomic { !joined && twice -> twice = 0 }
        fi;
        sleep_on(JOIN, ended == seen);
        goto again;
leave:
        apart;
        atomic { alarm_clear(me); gone = gone | BIT(me); goto end_gone }
    } unless { die(me) };
end_gone:
    false
}

proctype producer(byte me)
{
    byte i, n;

    {
        atomic { alarm_set(me); there++ };
        ring(TAKE, false);
        atomic { alarm_clear(me); gone = gone | BIT(me); goto end_gone }
    } unless { die(me) };
end_gone:
    false
}

#define asleep        (sleeping & ~killed)
#define living_takers (takers & ~killed & ~gone)

init
{
    byte p, k;

    atomic {
        do
        :: p < TAKERS -> run taker(p); p++
        :: p >= TAKERS && p < TAKERS + JOINERS -> run joiner(p); p++
        :: p >= TAKERS + JOINERS && p < N -> run producer(p); p++
        :: p >= N -> break
        od;
        run killer()
    }
    timeout;
    d_step {
        assert(!asleep || !all_done || (!END && asleep < BIT(TAKERS)));
        do
        :: k < ITEMS ->
            /* what is nobody's, and what the dead have if they give it back, is somebody's to take */
            assert(k >= there || claim[k] != 0 || !living_takers);
#if defined(REDELIVERS) || JOINERS > 0
            assert(!(claim[k] != DONE && dead(claim[k])) || !asleep ||
                   (!(asleep >> TAKERS) && !living_takers));
#endif
            k++
        :: else -> break
        od
    }
}
