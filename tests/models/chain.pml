/* SPDX-License-Identifier: MIT */
/*
 * The chain (msg/chain.h) of a queue that grows, and the blocks in it (msg/queue.h): whoever is killed,
 * and when, no item is lost or taken twice, and no block is lost or freed twice.
 *
 *   producer    append(), with make_room(), add_segment(), cv_chain_continue(), cv_queue_append_block(); and
 *               mend(), with cv_chain_mend() and mend_incoming()
 *   consumer    take(), with cv_queue_leave_segment(), take_block(); and mend(), with mend_outgoing()
 *   undertaker  frees what the dead have
 *
 * Who is killed has a successor, who finds the lock of a dead holder and mends, and may be killed as well.
 * The locks themselves are in lock.pml, and who waits in queue.pml.
 *
 * With WIDENS it goes on, once, in another segment though there is room, and stays there a while, as
 * make_room() does where much goes through.
 *
 * A cell is one place, and a segment has two of them; so an item and the EMPTY behind it fill one. The heap's
 * block 0 is the first segment, which is the queue's for ever. Every BLOCKSth item is a block.
 * Moving a block from one owner to another is one step, and so is freeing it.
 *
 * Left out: WRAP, batches, END, limits of items and bytes, priorities, and claims.
 *
 * Shown: items are taken in the order of their commits, each once, with the bytes that were put; nobody
 * touches a block that is free; every run ends, and when it has ended the blocks that are in use are those
 * of the chain.
 */
#ifndef PUTS
#define PUTS   4
#define BLOCKS 2
#define WIDENS 0
#define KILLS  1
#endif
#define CELLS 2 /* of a segment */
#define SLOTS 3
#define HEAP  5 /* blocks */

#define NONE 255

/* Owners. */
#define FREE     0
#define PRODUCER 1
#define CONSUMER 2
#define DEAD     3
#define QUEUE    4
#define OUTGOING 5

/* Kinds of cells, which have the number of their item, and a slot, or a block. */
#define EMPTY 0
#define ITEM  1
#define BLOCK 2
#define NEXT  3

byte owner[HEAP];
byte bytes[HEAP];           /* of a block that is an item: its number + 1 */
byte kind[HEAP * CELLS];    /* of a block that is a segment */
byte number[HEAP * CELLS];
byte address[HEAP * CELLS]; /* or slot */
byte segment[SLOTS];        /* blocks; 0 is free, but for slot 0 */

bit widened, is_fast;
byte tail_slot, tail, tail_start, tail_count, at_slot, at, home_left;
byte head_slot, head; /* one word */
byte in, in_slot;     /* put.intent, one word: 0, or a block, and the slot if it is a segment */
byte out, out_slot;   /* get.intent */

/* For the properties, and for dying. */
byte n_taken, n_committed;
byte kills;
bit killed_put, killed_get;

#define CELL(slot, position) (segment[slot] * CELLS + (position) % CELLS)
#define is_block(k)          ((k) % BLOCKS == BLOCKS - 1)
#define is_mapped(slot)      ((slot) == 0 || segment[slot] != 0)

/* cv_heap_give() */
inline give(which, from, to)
{
    owner[which] = (owner[which] == from -> to : owner[which])
}

/* cv_free_of(), or cv_heap_free() */
inline free_of(which, from)
{
    d_step {
        bytes[which] = (owner[which] == from -> 0 : bytes[which]);
        owner[which] = (owner[which] == from -> FREE : owner[which])
    }
}

/* Part of a step: some free block, or 0 */
inline alloc(which)
{
    which = 1;
    do
    :: which < HEAP && owner[which] != FREE -> which++
    :: else -> break
    od;
    if
    :: which == HEAP -> which = 0
    :: else -> owner[which] = PRODUCER
    fi
}

inline write(in_slot_of, place, of_kind, value)
{
    assert(is_mapped(in_slot_of) && owner[segment[in_slot_of]] != FREE);
    kind[CELL(in_slot_of, place)] = of_kind;
    number[CELL(in_slot_of, place)] = tail_count;
    address[CELL(in_slot_of, place)] = value
}

/* A step of its own, behind a label */
#define apart skip

/* The producer's end ************************************************************************* */

/* cv_chain_mend() and mend_incoming() */
inline mend_put()
{
#ifndef NO_MEND_TAIL
    do
    :: atomic { d_step {
            is = kind[CELL(tail_slot, tail)];
            k = number[CELL(tail_slot, tail)];
            slot = address[CELL(tail_slot, tail)]
        } };
        if
#ifndef NO_GONE
        :: atomic { !is_mapped(tail_slot) -> is = NEXT; slot = (in && in_slot != NONE -> in_slot : 0) }
#endif
        :: else
        fi;
        if
        :: is == EMPTY -> break
        :: is == NEXT -> tail_start = tail + 1; atomic { tail_slot = slot; tail++ }
        :: is == ITEM || is == BLOCK -> tail_count = (k == tail_count -> k + 1 : tail_count); tail++
        fi
    od;
    atomic { is = 0; k = 0; slot = 0 };
#endif
#ifndef NO_MEND_IN
    if
    :: in ->
        if
#ifdef FREE_ANYWAY
        :: true ->
#else
        :: tail == at && tail_slot == at_slot ->
#endif
            if
            :: in_slot != NONE -> segment[in_slot] = 0
            :: in_slot == NONE
            fi;
            free_of(in, QUEUE)
        :: else
        fi
    :: !in
    fi;
#endif
    atomic { in = 0; in_slot = 0 }
}

/* cv_chain_continue() in @slot */
inline continue_in(to)
{
    if
    :: tail_slot == 0 -> home_left = tail + 1
    :: tail_slot != 0
    fi;
#ifndef EMPTY_LATE
    d_step { write(to, tail + 1, EMPTY, 0) };
#endif
    d_step { write(tail_slot, tail, NEXT, to) };
#ifdef EMPTY_LATE
    d_step { write(to, tail + 1, EMPTY, 0) };
#endif
    tail_start = tail + 1;
    atomic { tail_slot = to; tail++ }
}

#ifdef HOME_EARLY
#define home_is_left true
#else
#define home_is_left (head >= home_left)
#endif

#define can_go_home (tail_slot != 0 && home_is_left && tail - head <= 1)
#define may_widen   (WIDENS && !widened && tail_slot == 0)
#define is_room     (tail + 2 <= (head > tail_start -> head : tail_start) + CELLS)

proctype producer()
{
    byte block, slot, is, k, b;
    bit died, done;

end:
    do
    :: {
        goto begin;
begin:
        apart;
        if
        :: died -> mend_put(); died = 0
        :: !died
        fi;
        done = (tail_count == PUTS);
again:
        apart;
        if
        :: done -> goto end_done
        :: !done && is_fast -> is_fast = 0; goto again
        :: !done && !is_fast && can_go_home -> continue_in(0); goto again
        :: !done && (is_fast || !can_go_home) && is_room
        :: !done && ((!can_go_home && !is_room) || (may_widen && is_room)) ->
            atomic {
                if
                :: is_room -> widened = 1; is_fast = 1
                :: else
                fi;
                slot = 1;
                do
                :: slot < SLOTS && segment[slot] != 0 -> slot++
                :: else -> break
                od;
                if
                :: slot == SLOTS -> slot = 0; goto again
                :: else
                fi;
                alloc(block);
                if
                :: block == 0 -> slot = 0; goto again
                :: else
                fi
            };
#ifndef NO_INTENT_IN
            atomic { at = tail; at_slot = tail_slot };
            atomic { in = block; in_slot = slot };
#endif
            segment[slot] = block;
            give(block, PRODUCER, QUEUE);
            continue_in(slot);
            atomic { in = 0; in_slot = 0; block = 0; slot = 0 };
            goto again
        fi;
        if
        :: is_block(tail_count) ->
            atomic { alloc(block);
                if
                :: block == 0 -> goto again
                :: else -> bytes[block] = tail_count + 1
                fi };
#ifndef NO_INTENT_IN
            atomic { at = tail; at_slot = tail_slot };
            atomic { in = block; in_slot = NONE };
#endif
            give(block, PRODUCER, QUEUE)
        :: !is_block(tail_count)
        fi;
        d_step { number[CELL(tail_slot, tail + 1)] = 0; kind[CELL(tail_slot, tail + 1)] = EMPTY };
        d_step {
            write(tail_slot, tail, (block -> BLOCK : ITEM), block);
            assert(n_committed == tail_count);
            n_committed++
        };
        tail_count++;
        tail++;
        atomic { in = 0; in_slot = 0; block = 0 };
        goto begin;
end_done:
        false
        } unless {
            d_step {
                killed_put -> killed_put = 0;
                b = 0;
                do
                :: b < HEAP -> give(b, PRODUCER, DEAD); b++
                :: else -> break
                od;
                b = 0; block = 0; slot = 0; is = 0; k = 0; done = 0; died = 1
            }
        }
    od
}

/* The consumer's end ************************************************************************* */

/* mend_outgoing() */
inline mend_get()
{
#ifndef NO_MEND_OUT
    if
    :: out && owner[out] == OUTGOING ->
        if
        :: out_slot != NONE -> is_in = (head_slot == out_slot)
        :: out_slot == NONE ->
            is_in = (kind[CELL(head_slot, head)] == BLOCK && address[CELL(head_slot, head)] == out)
        fi;
#ifdef NO_LOOK_OUT
        is_in = 0;
#elif defined(BACK_ANYWAY)
        is_in = 1;
#endif
        if
        :: is_in -> give(out, OUTGOING, QUEUE)
        :: !is_in ->
            if
            :: out_slot != NONE && segment[out_slot] == out -> segment[out_slot] = 0
            :: else
            fi;
            free_of(out, OUTGOING)
        fi
    :: else
    fi;
#endif
    atomic { is_in = 0; out = 0; out_slot = 0 }
}

inline commit_take(new_slot)
{
    atomic { head_slot = new_slot; head++ }
}

proctype consumer()
{
    byte block, slot, old, b, k;
    bit died, is_in;

end:
    do
    :: {
        goto begin;
begin:
        apart;
        if
        :: died -> mend_get(); died = 0
        :: !died
        fi;
end_idle:
        if
        :: atomic { kind[CELL(head_slot, head)] != EMPTY ->
            assert(is_mapped(head_slot) && owner[segment[head_slot]] != FREE) }
        fi;
        if
        :: kind[CELL(head_slot, head)] == ITEM ->
            atomic {
                assert(number[CELL(head_slot, head)] == n_taken);
                n_taken++;
                commit_take(head_slot)
            }
        :: kind[CELL(head_slot, head)] == BLOCK ->
            atomic { block = address[CELL(head_slot, head)]; k = number[CELL(head_slot, head)] };
#ifndef NO_INTENT_OUT
            atomic { out = block; out_slot = NONE };
#endif
#ifdef OWN_EARLY
            give(block, QUEUE, CONSUMER);
#elif !defined(NO_OUTGOING)
            give(block, QUEUE, OUTGOING);
#endif
            atomic { assert(k == n_taken); n_taken++; commit_take(head_slot) };
#ifdef NO_OUTGOING
            give(block, QUEUE, CONSUMER);
#else
            give(block, OUTGOING, CONSUMER);
#endif
            atomic { out = 0; out_slot = 0 };
            assert(owner[block] == CONSUMER && bytes[block] == k + 1);
            free_of(block, CONSUMER);
            atomic { block = 0; k = 0 }
        :: kind[CELL(head_slot, head)] == NEXT && head_slot == 0 ->
            commit_take(address[CELL(head_slot, head)])
        :: kind[CELL(head_slot, head)] == NEXT && head_slot != 0 ->
            atomic { old = head_slot; block = segment[old]; slot = address[CELL(head_slot, head)] };
#ifndef NO_INTENT_OUT
            atomic { out = block; out_slot = old };
#endif
            give(block, QUEUE, OUTGOING);
#ifdef SLOT_EARLY
            segment[old] = 0;
#endif
            commit_take(slot);
#ifndef SLOT_EARLY
            segment[old] = 0;
#endif
            free_of(block, OUTGOING);
            atomic { out = 0; out_slot = 0; block = 0; slot = 0; old = 0 }
        fi;
        goto begin
        } unless {
            d_step {
                killed_get -> killed_get = 0;
                b = 0;
                do
                :: b < HEAP -> give(b, CONSUMER, DEAD); b++
                :: else -> break
                od;
                b = 0; block = 0; slot = 0; old = 0; k = 0; is_in = 0; died = 1
            }
        }
    od
}

/******************************************************************************************** */

proctype undertaker()
{
end:
    do
    :: d_step { owner[1] == DEAD -> owner[1] = FREE; bytes[1] = 0 }
    :: d_step { owner[2] == DEAD -> owner[2] = FREE; bytes[2] = 0 }
    :: d_step { owner[3] == DEAD -> owner[3] = FREE; bytes[3] = 0 }
    :: d_step { owner[4] == DEAD -> owner[4] = FREE; bytes[4] = 0 }
    od
}

proctype killer()
{
    atomic {
        do
        :: kills < KILLS -> kills++
        :: break
        od
    };
end:
    do
    :: atomic { kills > 0 && !killed_put -> killed_put = 1; kills-- }
    :: atomic { kills > 0 && !killed_get -> killed_get = 1; kills-- }
    od
}

init
{
    byte b, used, slot, place;

    atomic {
        owner[0] = QUEUE;
        run producer();
        run consumer();
        run undertaker();
        run killer()
    }
    timeout;
    d_step {
        assert(n_taken == n_committed && n_taken == PUTS);
        assert(head == tail && head_slot == tail_slot && !in && !out);
        do
        :: b < HEAP -> used = used + (owner[b] != FREE); b++
        :: else -> break
        od;
        assert(owner[0] == QUEUE && (tail_slot == 0 || owner[segment[tail_slot]] == QUEUE));
        assert(used == (tail_slot == 0 -> 1 : 2));
        slot = 1;
        do
        :: slot < SLOTS -> assert(slot == tail_slot || segment[slot] == 0); slot++
        :: else -> break
        od
    }
}
