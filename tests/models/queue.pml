/* SPDX-License-Identifier: MIT */
/*
 * The queue (msg/queue.c): first in, first out, nothing lost, and nobody sleeps who could go on.
 *
 *   producer   covey_queue_put(): enter_put_until(), mend_put(), append(), wait_for_room(), and the
 *              wakes of put()
 *   consumer   covey_queue_get(): see_empty(), wait_for_item(), take(), and the wakes of get()
 *   closer     covey_queue_close()
 *
 * The ring has PLACES places; an item takes as many as it is large, 1 or 2, and room is needed for
 * the EMPTY behind it. Positions only grow.
 *
 * Who was woken, and cannot or will not use that, wakes the next: also who gives up at a lock.
 *
 * The locks are one step: a lock is free, held, or its holder is dead and it is taken over, as in
 * lock.pml. Those that wait for one sleep on the alarm as well. The impatient may run out of time
 * when they sleep, or with LOCK_TIMEOUT at a lock that is held, as it is by a member that is stopped.
 * With TOO_BIG, the first consumer has no room for large items.
 *
 * Ringing a bell is one step, and so are arming it and falling asleep: wait.pml has them in full. With
 * BY_WORD, a consumer falls asleep word by word. (Then EMPTY_ALIKE fails, without numbers of the items to
 * come, with two of each who put and get one item in 2 PLACES and 2 KILLS: in two minutes.)
 * Left out: WRAP (an item may go around the ring's end here), the limit of items and with
 * it taken(), covey_queue_size(), and that numbers overflow.
 *
 * Without a mutant, since nothing here needs it: that the mender rings, for who sleeps compares the cell.
 *
 * Shown: items are taken in the order of their commits, each once, whole, and with the number that
 * belongs to it; every run ends, and when it has ended no consumer who lives sleeps while there is
 * an item or the END, and no producer while there is room for its item or the END.
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#define CONSUMERS 2
#define PUTS      2 /* of each producer */
#define GETS      2 /* of each consumer, at most */
#define CLOSERS   0 /* 0 or 1 */
#define PLACES    3
#define SMALL     1 /* large items: every SMALL + 1st producer's; 9: none */
#define KILLS     1
#define IMPATIENT 0 /* as many of the producers, and of the consumers */
#endif
#define N     (PRODUCERS + CONSUMERS + CLOSERS)
#define WORDS 3
#define GONG  1
#define BELLS 2
#define ITEMS 0 /* the bells */
#define ROOM  1

#include "kernel.pml"
#include "bell.pml"

/* Cell heads: the number of the item, or of the one to come, and the size of the item, EMPTY, or END. */
#define EMPTY         0
#define END           3
#define HEAD(k, size) (((k) << 2) | (size))
#define SIZE(head)    ((head) & 3)
#define NUMBER(head)  ((head) >> 2)
#ifdef EMPTY_ALIKE
#define EMPTY_HEAD(k) 0
#else
#define EMPTY_HEAD(k) HEAD(k, EMPTY)
#endif

#define AT(position) ((position) % PLACES)

byte head[PLACES];  /* the cell's head, where a cell begins */
byte bytes[PLACES]; /* and its bytes: who put it, and which of his it is */
byte put_lock, get_lock; /* holder + 1 */
byte put_tail, put_count, get_head;

/* For the properties only. */
byte committed[PRODUCERS * PUTS]; /* bytes of all items in the order of their commits */
byte n_committed, n_taken;

#define dead(holder) ((holder) && (killed & gone & (BIT(holder) >> 1)))

#define me_is_impatient (me < IMPATIENT || (me >= PRODUCERS && me < PRODUCERS + IMPATIENT))

/*
 * cv_lock_enter(): @died says whether the holder had died. Who has no more time goes to lock_timeout.
 */
#ifdef LOCK_TIMEOUT
#define may_time_out(lock) (me_is_impatient && lock && !dead(lock))
#define may_time_out_asleep false
#else
#define may_time_out(lock) false
#define may_time_out_asleep me_is_impatient
#endif

inline enter(lock, died)
{
    do
    :: atomic { lock == 0 || dead(lock) -> died = (lock != 0); lock = me + 1; break }
    :: atomic { else -> queue_on(ALARM, me) };
        if
        :: atomic { lock == 0 || dead(lock) || (alarmed & BIT(me)) -> awake() }
        :: atomic { may_time_out(lock) && !(alarmed & BIT(me)) -> unqueue(me); goto lock_timeout }
        fi
    od
}

/* What cv_wait_sleep() does when it has slept, in one step. Who was woken by the alarm wakes all. */
inline awake()
{
    atomic {
        if
        :: alarmed & BIT(me) -> unqueue(me); rally_all()
        :: else -> unqueue(me)
        fi
    }
}

#define large(p) ((p) % (SMALL + 1) == SMALL -> 2 : 1)

/* For the next holder after a death; the two counters go one by one. */
inline mend_put()
{
#ifndef NO_RING_MEND
    if
    :: died -> ring(ITEMS, true)
    :: !died
    fi;
#endif
    do
    :: atomic { died && SIZE(head[AT(put_tail)]) != EMPTY && SIZE(head[AT(put_tail)]) != END ->
        if
        :: NUMBER(head[AT(put_tail)]) == put_count -> put_count++
        :: else
        fi
        };
        put_tail = put_tail + SIZE(head[AT(put_tail)])
    :: else -> break
    od
}

/* Is there room for an item of @size? */
#define room_for(size) (put_tail + (size) + 1 - get_head <= PLACES)

proctype producer(byte me)
{
    byte i, n;
    byte seen, seen_before, tail;
    byte left = PUTS;
    bit died, done, closed, slept, timed_out;

    {
        goto begin;
begin:
        apart;
        atomic {
            left--;
#ifndef NO_ALARM_PUT
            alarm_set(me);
#endif
        };
again:
        enter(put_lock, died);
#ifndef NO_MEND
        mend_put();
#endif
        atomic {
            died = 0;
            seen = get_head;
            tail = put_tail;
            closed = (SIZE(head[AT(tail)]) == END)
        };
        if
        :: atomic { !closed && room_for(large(me)) ->
            bytes[AT(tail)] = me * PUTS + left;
#ifndef NO_EMPTY_BEHIND
            head[AT(tail + large(me))] = EMPTY_HEAD(put_count + 1)
#endif
            };
#ifdef COUNT_BEFORE_COMMIT
            put_count++;
#endif
            atomic {
#ifdef COUNT_BEFORE_COMMIT
                head[AT(tail)] = HEAD(put_count - 1, large(me));
#else
                head[AT(tail)] = HEAD(put_count, large(me));
#endif
                committed[n_committed] = me * PUTS + left;
                assert(NUMBER(head[AT(tail)]) == n_committed);
                n_committed++;
                done = 1
            };
#ifndef COUNT_BEFORE_COMMIT
            put_count++;
#endif
            atomic { put_tail = tail + large(me); put_lock = 0 }
        :: else -> put_lock = 0
        fi;
        if
        :: done -> ring(ITEMS, false)
        :: else
        fi;
#ifndef NO_PASS_ON_ROOM
        if
        :: slept && (done || seen != seen_before) -> ring(ROOM, false)
        :: else
        fi;
#endif
        atomic {
            if
            :: done || closed || timed_out -> goto leave
            :: else
            fi;
            seen_before = seen
        };
        /* wait_for_room() */
        atomic { arm(ROOM) };
        atomic {
            if
            :: !is_as_armed(ROOM) -> goto after
#ifndef NO_COMPARE_HEAD
            :: get_head != seen -> goto after
#endif
#ifndef NO_COMPARE_TAIL
            :: SIZE(head[AT(tail)]) != EMPTY -> goto after
#endif
            :: else
            fi;
            heard[ROOM] = heard[ROOM] & ~BIT(me);
            queue_on(GONG + ROOM, me);
            queue_on(ALARM, me);
            sleeping = sleeping | BIT(me);
            slept = 1
        };
end_asleep:
        if
        :: atomic { woken & BIT(me) -> awake() }
        :: atomic { may_time_out_asleep && !(woken & BIT(me)) -> timed_out = 1; unqueue(me) }
        fi;
after:
        apart;
        atomic { disarm(ROOM); goto again };

lock_timeout:
        apart;
#ifndef NO_PASS_ON_AT_LOCK
        if
        :: slept -> ring(ROOM, false)
        :: else
        fi;
#endif
leave:
        apart;
        atomic {
            alarm_clear(me);
            seen = 0; seen_before = 0; tail = 0; done = 0; slept = 0;
            if
            :: left > 0 && !closed && !timed_out -> goto begin
            :: else -> gone = gone | BIT(me); goto end_gone
            fi
        }
    } unless { die(me) };
end_gone:
    false
}

proctype consumer(byte me)
{
    byte i, n;
    byte place, cell, copy;
    byte left = GETS;
    bit died, slept, timed_out;

    {
        goto begin;
begin:
        apart;
        atomic {
            left--;
#ifndef NO_ALARM_GET
            alarm_set(me);
#endif
        };
again:
        /* see_empty() */
        atomic {
            if
            :: SIZE(head[AT(get_head)]) != EMPTY -> goto take
            :: SIZE(head[AT(get_head)]) == EMPTY && timed_out -> goto leave
            :: else
            fi
        };
        /* wait_for_item() */
        atomic { arm(ITEMS); place = get_head };
        if
        :: atomic { SIZE(head[AT(place)]) != EMPTY -> place = 0; goto after }
        :: atomic { SIZE(head[AT(place)]) == EMPTY -> cell = head[AT(place)] }
        fi;
        atomic {
            if
            :: get_head != place -> place = 0; cell = 0; goto after
            :: else
            fi
        };
        atomic {
            if
            :: !is_as_armed(ITEMS) -> place = 0; cell = 0; goto after
#if !defined(NO_COMPARE_CELL) && !defined(BY_WORD)
            :: head[AT(place)] != cell -> place = 0; cell = 0; goto after
#endif
            :: else
            fi;
            heard[ITEMS] = heard[ITEMS] & ~BIT(me);
            queue_on(GONG + ITEMS, me);
#ifdef BY_WORD
        };
        queue_on(ALARM, me);
        atomic {
            if
            :: head[AT(place)] != cell -> woken = woken | BIT(me)
            :: else
            fi;
#else
            queue_on(ALARM, me);
#endif
            sleeping = sleeping | BIT(me);
            place = 0;
            cell = 0;
            slept = 1
        };
end_asleep:
        if
        :: atomic { woken & BIT(me) -> awake() }
        :: atomic { may_time_out_asleep && !(woken & BIT(me)) -> timed_out = 1; unqueue(me) }
        fi;
after:
        apart;
        atomic { disarm(ITEMS); goto again };

take:
        enter(get_lock, died);
        atomic { died = 0; place = get_head; cell = head[AT(place)]; copy = bytes[AT(place)] };
        if
        :: SIZE(cell) == EMPTY -> atomic { get_lock = 0; place = 0; cell = 0; copy = 0; goto again }
        :: SIZE(cell) == END -> atomic { get_lock = 0; goto leave }
#ifdef TOO_BIG
        :: SIZE(cell) == 2 && me == PRODUCERS -> get_lock = 0;
#ifndef NO_PASS_ON_ITEM
            ring(ITEMS, false);
#endif
            goto leave
        :: SIZE(cell) == 1 || (SIZE(cell) == 2 && me != PRODUCERS)
#else
        :: SIZE(cell) == 1 || SIZE(cell) == 2
#endif
        fi;
        atomic {
            get_head = place + SIZE(cell);
            assert(NUMBER(cell) == n_taken && n_taken < n_committed);
            assert(copy == committed[n_taken]);
            n_taken++;
            place = 0;
            cell = 0;
            copy = 0
        };
        get_lock = 0;
        ring(ROOM, false);
        goto leave;

lock_timeout:
        apart;
#ifndef NO_PASS_ON_AT_LOCK
        if
        :: slept -> ring(ITEMS, false)
        :: else
        fi;
#endif
        timed_out = 1;
leave:
        apart;
        atomic {
            alarm_clear(me);
            place = 0; slept = 0; copy = 0;
            if
            :: left > 0 && cell == 0 && !timed_out -> goto begin
            :: else -> cell = 0; gone = gone | BIT(me); goto end_gone
            fi
        }
    } unless { die(me) };
end_gone:
    false
}

proctype closer(byte me)
{
    byte i, n;
    bit died;

    {
        alarm_set(me);
        enter(put_lock, died);
        mend_put();
        head[AT(put_tail)] = HEAD(put_count, END);
        put_lock = 0;
        ring(ITEMS, true);
#ifndef NO_CLOSE_ROOM
        ring(ROOM, true);
#endif
lock_timeout:
        apart;
        atomic { alarm_clear(me); gone = gone | BIT(me) }
    } unless { die(me) };
end_gone:
    false
}

#define asleep(p) ((sleeping & ~killed) & BIT(p))

init
{
    byte p;

    atomic {
        do
        :: p < PRODUCERS -> run producer(p); p++
        :: p >= PRODUCERS && p < PRODUCERS + CONSUMERS -> run consumer(p); p++
        :: p >= PRODUCERS + CONSUMERS && p < N -> run closer(p); p++
        :: p >= N -> break
        od;
        run killer();
        p = 0
    }
    timeout;
    d_step {
        /* What a death has left may still have to be mended. */
        do
        :: SIZE(head[AT(put_tail)]) != EMPTY && SIZE(head[AT(put_tail)]) != END ->
            put_tail = put_tail + SIZE(head[AT(put_tail)])
        :: else -> break
        od;
        do
        :: p < PRODUCERS ->
            assert(!asleep(p) || !(room_for(large(p)) || SIZE(head[AT(put_tail)]) == END));
            p++
        :: p >= PRODUCERS && p < PRODUCERS + CONSUMERS ->
            assert(!asleep(p) || SIZE(head[AT(get_head)]) == EMPTY);
            p++
        :: else -> break
        od;
        assert(put_tail - get_head == 0 || n_committed > n_taken)
    }
}
