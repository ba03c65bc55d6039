/* SPDX-License-Identifier: MIT */
/*
 * The users of an end (msg/users.h): who waits for them to go is told when all have, and not before.
 *
 *   member   cv_users_be(), cv_users_give() and cv_users_drop(), as often as ACTS: who is here leaves, puts
 *            the end into a queue (TICKETS times), or starts the CHILD with it; who is not gets it out of the
 *            queue, or comes, if it is one of those that COME by themselves
 *   watcher  wait_for_item() with cv_users_are_gone(), until all are gone
 *   burier   buries and settles whoever has died
 *
 * There are CELLS of them, of which any that is free may be claimed; who finds none, and none of a dead
 * process, stays as he is. NEEDED says how many must have been here. Those that are EXPECTED have made the end, and
 * the FORKS are children of member 0. With TWINS members 0 and 1 are threads of one process.
 *
 * A ticket goes: its maker's own, in the way of its queue, in the queue, in the way, the receiver's own. What is
 * in the way when the other one dies is given up by who mends the queue, what is his own by who buries him; but
 * that need not be: for the watcher it holds nothing.
 *
 * Left out: more tickets than one, the queues' locks but for who gets a ticket, the lock of the pipe (see
 * pipe.pml), the bell in full (see wait.pml), the CHILD that comes to life without its parent.
 *
 * Without a mutant: that who gives looks once more at a value that has changed; where it matters is too large to
 * be searched.
 *
 * Shown: the watcher finds that all are gone only if nobody was here at some instant since it began to look, and
 * enough had been; every run in which that is so ends with it having found it; nobody changes a cell that is
 * another's.
 */
#ifndef MEMBERS
#define MEMBERS 2
#define CELLS   2
#define HOLD    1 /* those that are here at first: a set, as the next ones */
#define EXPECT  0
#define FORKS   0
#define COME    0
#define CHILD   9
#define NEEDED  0
#define TICKETS 1
#define ACTS    2
#define BURIERS 0
#define KILLS   1
#endif
#define WATCHER MEMBERS
#define N       (MEMBERS + 1)
#define WORDS   (2 + N)
#define GONG    1
#define BELLS   1
#define LIFE(p) (2 + (p)) /* the sleepers that watch its life */
#define LIVES

#include "kernel.pml"
#include "bell.pml"

#define BURIER 6 /* needs no number that the kernel knows */

/* Values: */
#define NONE     0
#define EXPECTED 1
#define HERE     2
#define LEFT     3
#define COUNT    4
#define what(v)  ((v) & 3)

#ifdef TWINS
#define mark_of(p) ((p) == 1 -> 1 : (p) + 1)
#else
#define mark_of(p) ((p) + 1)
#endif
#define TICKET 9

byte mark[CELLS]; /* 0, a member + 1, or TICKET */
byte value[CELLS];
bit used;
byte needed = NEEDED;

/* The ticket: */
#define NOWHERE 0
#define QUEUED  1
#define WAY     2  /* and whose */
#define OWN     10
byte where;
byte tickets = TICKETS;
byte getter; /* + 1: who is at the head of the queue */

bit started; /* the CHILD */
bit twin_rests;
bit ended;   /* the watcher has found that all are gone */

/* What is so, whatever the cells say. */
byte here = HOLD;
byte maybe = EXPECT | FORKS; /* those that count as long as nobody has been here */
byte left;
byte been = HOLD;
bit was_gone; /* since the watcher began to look */

#define proved  (killed & gone)
#define dead(m) ((m) && (m) != TICKET && (proved & (BIT(m) >> 1)))

#define have_been ((been & 1) + (been >> 1 & 1) + (been >> 2 & 1) + (been >> 3 & 1))
#define nobody    (!(here & ~killed) && where != QUEUED && (used || !(maybe & ~killed)) && have_been >= NEEDED)

inline note()
{
    was_gone = was_gone || nobody
}

inline life_ends(p)
{
    d_step {
        woken = woken | queued[LIFE(p)];
        queued[LIFE(p)] = 0;
        note()
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

/* Part of a step: the next value of a cell. */
#ifdef NO_COUNT_HERE
#define next(v, w) (((v) & ~3) + (w))
#else
#define next(v, w) (((v) & ~3) + ((w) == HERE -> COUNT : 0) + (w))
#endif

/* Where several cells are looked at, each look is a step; or with COARSE, all are. */
#ifdef COARSE
#define begin_loop atomic {
#define end_loop   }
#define begin_step
#define end_step
#else
#define begin_loop
#define end_loop
#define begin_step atomic {
#define end_step   }
#endif

/* Claiming *********************************************************************************** */

#ifdef COUNT_TWICE
#define counts_first(a) true
#else
#define counts_first(a) !((a) > 0 && mark[0] == mark[a] && what(value[0]) > EXPECTED) && \
                        !((a) > 1 && mark[1] == mark[a] && what(value[1]) > EXPECTED)
#endif

/* were_enough(): cell by cell; all that are needed may not be seen by who comes late */
inline look_for_enough()
{
    begin_loop
        want = needed;
        n = 0;
        c = 0;
        do
        :: begin_step c < CELLS && n < want ->
                n = n + (mark[c] && what(value[c]) > EXPECTED && counts_first(c) -> 1 : 0);
                c++ end_step
        :: begin_step c >= CELLS || n >= want ->
                enough = n >= want;
                needed = (enough -> 0 : needed);
                n = 0;
                c = 0;
                want = 0;
                break end_step
        od
    end_loop
}

#if defined(RECYCLE_ANYWAY)
#define may_recycle true
#elif defined(RECYCLE_PARENTS)
#define may_recycle enough
#else
#define may_recycle (enough && !((EXPECT | FORKS) && !used))
#endif

inline recycle()
{
    look_for_enough();
    if
    :: atomic { may_recycle -> enough = 0 };
        do
        :: c < CELLS ->
#ifdef MARK_FIRST
            m = mark[c];
            v = value[c];
#else
            v = value[c];
            m = mark[c];
#endif
            if
            :: atomic { dead(m) ->
                    if
                    :: value[c] == v ->
                        assert(!mark[c] || mark[c] == m || what(v) == NONE);
                        value[c] = (v & ~3) + COUNT
                    :: else
                    fi };
                atomic { mark[c] = (mark[c] == m -> 0 : mark[c]); c++ }
            :: atomic { !dead(m) -> c++ }
            fi
        :: atomic { c >= CELLS -> c = 0; m = 0; v = 0; break }
        od
    :: atomic { !(may_recycle) -> enough = 0 }
    fi
}

#if CELLS > 2
#define has_none(who) (mark[0] != (who) && mark[1] != (who) && mark[2] != (who))
#define full          (mark[0] && mark[1] && mark[2])
#define any_dead      (dead(mark[0]) || dead(mark[1]) || dead(mark[2]))
#define other_of(a)   (((a) != 0 && mark[0] == mark[a]) || ((a) != 1 && mark[1] == mark[a]) || \
                       ((a) != 2 && mark[2] == mark[a]))
#else
#define has_none(who) (mark[0] != (who) && mark[1] != (who))
#define full          (mark[0] && mark[1])
#define any_dead      (dead(mark[0]) || dead(mark[1]))
#define other_of(a)   (mark[0] == mark[1])
#endif

/* claim(): the cell of @who is @mine */
inline claim(who)
{
    do
    :: atomic { mark[0] == (who) -> mine = 0; break }
#if CELLS > 1
    :: atomic { mark[0] != (who) && mark[1] == (who) -> mine = 1; break }
#endif
#if CELLS > 2
    :: atomic { mark[0] != (who) && mark[1] != (who) && mark[2] == (who) -> mine = 2; break }
#endif
    :: atomic { has_none(who) -> skip };
        /* Any may have been free when it was looked at. */
        if
        :: atomic { mark[0] == 0 -> mark[0] = (who); mine = 0; break }
#if CELLS > 1
        :: atomic { mark[1] == 0 -> mark[1] = (who); mine = 1; break }
#endif
#if CELLS > 2
        :: atomic { mark[2] == 0 -> mark[2] = (who); mine = 2; break }
#endif
        :: full && any_dead -> recycle()
        :: atomic { full && !any_dead -> maybe = maybe | (FORKS & BIT(me)); goto end_stays }
        fi
    od
}

/* Members ************************************************************************************ */

/* cv_queue_wake_all(), tell() */
inline tell()
{
    ring(0, true)
}

inline owe()
{
#ifndef NO_ALARM
    if
    :: NEEDED -> alarm_set(me)
    :: else
    fi
#else
    skip
#endif
}

/* come(): those who wait must know whose life to watch before he counts */
inline announce()
{
#ifndef NO_ANNOUNCE
    if
    :: NEEDED && what(value[mine]) == NONE -> tell()
    :: else
    fi
#else
    skip
#endif
}

/* cv_users_be() */
inline be_here()
{
    atomic { owe() };
    do
    :: claim(mark_of(me));
        announce();
        atomic {
            assert(mark[mine] == mark_of(me));
            is_new = what(value[mine]) != HERE;
            value[mine] = (is_new -> next(value[mine], HERE) : value[mine]);
            here = here | BIT(mark_of(me) - 1);
            been = been | BIT(mark_of(me) - 1)
        };
#ifdef TAKE_BACK
        if
        :: atomic { mark[mine] == mark_of(me) -> break }
        :: atomic { mark[mine] != mark_of(me) -> skip }
        fi
#else
        break
#endif
    od;
    atomic { used = 1; mine = 0 };
    if
    :: is_new -> tell(); is_new = 0
    :: else
    fi;
    alarm_clear(me)
}

inline leave()
{
    atomic { owe(); here = here & ~BIT(mark_of(me) - 1); maybe = maybe & ~BIT(me); left = left | BIT(me);
        been = been | BIT(mark_of(me) - 1); note() };
    do
    :: claim(mark_of(me));
        announce();
        atomic {
#ifndef TAKE_BACK
            assert(mark[mine] == mark_of(me));
#endif
            value[mine] = next(value[mine], LEFT)
        };
#ifdef TAKE_BACK
        if
        :: atomic { mark[mine] == mark_of(me) -> break }
        :: atomic { mark[mine] != mark_of(me) -> skip }
        fi
#else
        break
#endif
    od;
    /* leave_others() */
#ifndef NO_LEAVE_OTHERS
    do
    :: atomic { c < CELLS && mark[c] == mark_of(me) -> value[c] = next(value[c], LEFT); c++ }
    :: atomic { c < CELLS && mark[c] != mark_of(me) -> c++ }
    :: atomic { c >= CELLS -> c = 0; mine = 0; break }
    od;
#endif
#ifndef NO_RING_LEAVE
    tell();
#endif
    alarm_clear(me)
}

#ifdef NO_HAS_ANOTHER
#define GIVE_ANYWAY true
#else
#define GIVE_ANYWAY false
#endif

/* cv_users_give(), for a process or a ticket; needs @v */
inline give(who)
{
    claim(who);
    do
    :: atomic { v = value[mine]; c = what(v) };
        if
        :: atomic { c != NONE -> c = 0; break }
        :: atomic { c == NONE && (GIVE_ANYWAY || !other_of(mine)) -> skip };
            if
            :: atomic { value[mine] == v ->
                    value[mine] = next(v, HERE);
                    here = here | ((who) != TICKET && !(left & (BIT(who) >> 1)) -> BIT(who) >> 1 : 0);
                    break }
            :: atomic { value[mine] != v -> skip }
            fi
        :: atomic { c == NONE && !(GIVE_ANYWAY || !other_of(mine)) -> skip };
#ifdef TAKE_BACK
            if
            :: atomic { value[mine] == v -> value[mine] = v + COUNT };
                atomic { mark[mine] = (mark[mine] == (who) -> 0 : mark[mine]); break }
            :: else -> break
            fi
#else
            break
#endif
        fi
    od;
    used = 1;
    atomic { v = 0; mine = 0 }
}

/* cv_users_drop(), by who has the ticket */
inline drop()
{
    atomic {
        do
        :: c < CELLS && mark[c] != TICKET -> c++
        :: else -> break
        od
    };
    if
    :: c < CELLS ->
        value[c] = (value[c] & ~3) + COUNT;
        mark[c] = 0
    :: else
    fi;
    c = 0;
    tell();
    where = NOWHERE
}

inline put()
{
    tickets--;
    give(TICKET);
    where = WAY + me;
    atomic { where = QUEUED; assert(here & BIT(me)) }
}

inline get()
{
    be_here();
    where = WAY + me;
    atomic { where = OWN + me; getter = 0 };
    drop()
}

#ifdef TWINS
#define may_leave (me != 0 || twin_rests) /* nobody uses the end meanwhile */
#else
#define may_leave true
#endif

#define may_get (where == QUEUED && (!getter || dead(getter)))

proctype member(byte me)
{
    byte i, n, c, v, m, mine, want;
    byte acts = ACTS;
    bit enough, is_new;

    {
        apart;
end_unborn:
        me != CHILD || started;
        do
        :: atomic { acts > 0 && ((here | maybe) & BIT(me)) && may_leave -> acts-- };
            leave()
        :: atomic { acts > 0 && (here & BIT(me)) && tickets && where == NOWHERE -> acts--; where = OWN + me };
            put()
        :: atomic { acts > 0 && (here & BIT(me)) && CHILD < MEMBERS && me != CHILD && !started ->
                started = 1; acts-- };
            give(mark_of(CHILD));
            tell()
        :: atomic { acts > 0 && !(here & BIT(me)) && may_get -> getter = me + 1; acts-- };
            get()
        :: atomic { acts > 0 && !(here & BIT(me)) && (COME & BIT(me)) && !(left & BIT(me) && !NEEDED) -> acts-- };
            be_here()
        :: atomic { acts > 0 -> acts = 0 }
        :: atomic { acts == 0 -> twin_rests = twin_rests || me == 1; goto end_stays }
        od;
end_stays:
        false
    } unless { die(me) };
end_gone:
    false
}

/* Watching *********************************************************************************** */

/* cv_member_bury() */
inline bury(p)
{
    if
    :: atomic { where == OWN + (p) -> where = OWN + me };
        drop()
    :: else
    fi
}

/* cv_pipe_settle() */
inline settle()
{
    if
#ifndef NO_SETTLE
    :: atomic { where >= WAY && where < OWN && dead(where - WAY + 1) -> where = OWN + me };
        drop()
#endif
    :: else
    fi
}

inline sum(s)
{
    begin_loop
        do
        :: begin_step c < CELLS -> s = s + (value[c] >> 2); c++ end_step
        :: begin_step c >= CELLS -> c = 0; break end_step
        od
    end_loop
}

#ifdef COUNT_LEFT
#define is_left(k) false
#elif CELLS > 2
#define is_left(k) ((mark[0] == (k) && what(value[0]) == LEFT) || (mark[1] == (k) && what(value[1]) == LEFT) || \
                    (mark[2] == (k) && what(value[2]) == LEFT))
#else
#define is_left(k) ((mark[0] == (k) && what(value[0]) == LEFT) || (mark[1] == (k) && what(value[1]) == LEFT))
#endif

/* add_here(): whichever it is */
inline watch_one()
{
    atomic {
        if
        :: is_used && (watch & 1) -> watch = 1
        :: is_used && (watch & 2) -> watch = 2
        :: is_used && (watch & 4) -> watch = 4
        :: is_used && (watch & 8) -> watch = 8
        :: !is_used || !watch
        fi
    }
}

/* are_gone(): whom to watch, and whether there is a ticket */
inline survey()
{
    do
    :: c < CELLS -> m = mark[c];
        atomic {
            v = value[c];
            if
            :: m == TICKET && what(v) == HERE -> ticket = 1
            :: m && m != TICKET && (what(v) == HERE || (what(v) == EXPECTED && !is_used)) && !dead(m) ->
                watch = watch | (BIT(m) >> 1)
            :: m && m != TICKET && what(v) == NONE && needed && !dead(m) -> also = also | (BIT(m) >> 1)
            :: else
            fi;
            c++;
            m = 0;
            v = 0
        }
    :: atomic { c >= CELLS -> c = 0; break }
    od;
    watch_one();
    if
    :: atomic { ticket && !watch -> ticket = 0 };
        /* add_ticket() */
        m = where;
        if
#ifndef NO_DEAD_ONES
        :: atomic { m >= OWN && dead(m - OWN + 1) -> m = 0 } /* it is his still, or his cell tells */
        :: atomic { m >= OWN && !dead(m - OWN + 1) -> watch = watch | BIT(m - OWN); poll = 1; m = 0 }
#else
        :: atomic { m >= OWN -> watch = watch | BIT(m - OWN); poll = 1; m = 0 }
#endif
        :: atomic { m < OWN -> poll = 1; m = 0 };
            settle()
        fi
    :: atomic { !(ticket && !watch) -> ticket = 0 }
    fi;
    look_for_enough();
#if FORKS
    /* add_child() */
    do
    :: atomic { !is_used && c < MEMBERS ->
            watch = watch | ((FORKS & BIT(c)) && !(proved & BIT(c)) && !has_none(1) && !is_left(c + 1) -> BIT(c) : 0);
            c++ }
    :: atomic { is_used || c >= MEMBERS -> c = 0; break }
    od;
#endif
    skip
}

inline watch_lives()
{
#ifndef NO_LIVES
    i = 0;
    do
    :: i < MEMBERS && (watch & ~proved & BIT(i)) -> queue_on(LIFE(i), me); i++
    :: i < MEMBERS && !(watch & ~proved & BIT(i)) -> i++
    :: else -> break
    od;
    i = 0
#else
    watch = 0
#endif
}

/* cv_wait_sleep(); a look every 20 ms matters only if the ticket is gone, or who has it */
#define is_given_up (where == NOWHERE || (where >= WAY && where < OWN && dead(where - WAY + 1)) || \
                     (where >= OWN && dead(where - OWN + 1)))

inline sleep_on()
{
    atomic {
        if
        :: !(watch & proved) && is_as_armed(0) ->
            heard[0] = heard[0] & ~BIT(me);
            queue_on(GONG, me);
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
    :: atomic { !(woken & BIT(me)) && poll && is_given_up -> unqueue(me) }
    fi;
    atomic { disarm(0); watch = 0; poll = 0 }
}

#if defined(NO_SUM)
#define MUST_LOOK_AGAIN false
#elif defined(ONLY_IF_GONE)
#define MUST_LOOK_AGAIN all
#else
#define MUST_LOOK_AGAIN (all || !is_used)
#endif

proctype watcher(byte me)
{
    byte i, n, c, v, m, watch, also, want, before, after;
    bit ticket, poll, is_used, enough, all;

again:
    apart;
    atomic { arm(0); was_gone = 0; note() };
    do
    :: is_used = used;
        sum(before);
        survey();
        all = !watch && !poll && enough;
        if
        :: MUST_LOOK_AGAIN -> sum(after)
        :: !(MUST_LOOK_AGAIN) -> after = before
        fi;
        if
        :: atomic { before != after || (MUST_LOOK_AGAIN && used != is_used) -> watch = 0; poll = 0 }
        :: atomic { before == after && !(MUST_LOOK_AGAIN && used != is_used) -> watch = watch | also; break }
        fi;
        atomic { before = 0; after = 0; also = 0; all = 0; enough = 0; is_used = 0 }
    od;
    if
    :: atomic { all -> goto found }
    :: atomic { !all -> before = 0; after = 0; also = 0; enough = 0; is_used = 0 }
    fi;
    sleep_on();
    goto again;
found:
    apart;
    d_step { assert(was_gone); ended = 1; disarm(0) };
end_found:
    false
}

proctype burier(byte me)
{
    byte i, n, c, m;

end:
    do
    :: (where >= OWN && where < OWN + MEMBERS && dead(where - OWN + 1)) ->
        m = where - OWN;
        bury(m);
        m = 0
    :: where >= WAY && where < OWN && dead(where - WAY + 1) -> settle()
    od
}

init
{
    byte p, c;

    atomic {
        gone = BIT(WATCHER); /* nobody kills it */
        used = HOLD != 0;
        do
        :: p < MEMBERS && ((HOLD | EXPECT) & BIT(p)) ->
            if /* in any cell */
            :: mark[0] == 0 -> c = 0
            :: mark[1] == 0 -> c = 1
            :: mark[CELLS - 1] == 0 -> c = CELLS - 1
            fi;
            mark[c] = p + 1;
            value[c] = (HOLD & BIT(p) -> HERE : EXPECTED);
            p++
        :: p < MEMBERS && !((HOLD | EXPECT) & BIT(p)) -> p++
        :: p >= MEMBERS -> break
        od;
        p = 0;
        c = 0;
        do
        :: p < MEMBERS -> run member(p); p++
        :: p >= MEMBERS -> break
        od;
        run watcher(WATCHER);
        if
        :: BURIERS -> run burier(BURIER)
        :: else
        fi;
        run killer()
    }
    timeout;
    assert(ended || !nobody)
}
