/* SPDX-License-Identifier: MIT */
#include "arena/member.h"

#include "arena/family.h"
#include "arena/object.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/clock.h"
#include "os/mutex.h"
#include "os/pid.h"
#include "os/thread.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    WHO_BITS = 22, /* a pid: the kernel's largest is 2^22 */
    PHASE_BITS = 3,
    SLOTS_FIRST = 32,                /* so many are used in turn before more are claimed */
    ORDERLY_GENERATIONS = 64,        /* of a slot, whose ends are remembered */
    LEAVE_PATIENCE_NS = CV_NS_PER_S, /* for daemons to end */
};

struct cv_self cv_self;

static cv_sweep_fn *sweeps[CV_SWEEPS];

void cv_member_set_sweep(enum cv_sweep sweep, cv_sweep_fn *fn)
{
    sweeps[sweep] = fn;
}

/* State words ******************************************************************************** */

static uint64_t state_make(uint64_t generation, enum cv_phase phase, pid_t who)
{
    return generation << (WHO_BITS + PHASE_BITS) | (uint64_t)phase << WHO_BITS | (uint64_t)who;
}

static uint64_t generation_of(uint64_t state)
{
    return state >> (WHO_BITS + PHASE_BITS);
}

/* Its bit in cv_member.orderly */
static uint64_t orderly_bit(uint64_t generation)
{
    return UINT64_C(1) << generation % ORDERLY_GENERATIONS;
}

static enum cv_phase phase_of(uint64_t state)
{
    return (enum cv_phase)(state >> WHO_BITS & ((1 << PHASE_BITS) - 1));
}

static pid_t who_of(uint64_t state)
{
    return (pid_t)(state & ((1 << WHO_BITS) - 1));
}

static uint64_t with_phase(uint64_t state, enum cv_phase phase)
{
    return state_make(generation_of(state), phase, who_of(state));
}

/* 0, which a record that is just being given up has for a tag, names nobody: no slot in use has
 * generation 0. */
struct cv_member *cv_member_of(uint64_t tag)
{
    return &cv_arena.members[tag ? cv_tag_slot(tag) : 0];
}

static uint64_t tag_of(uint32_t slot, uint64_t state)
{
    return cv_tag_make(slot, generation_of(state));
}

uint64_t cv_member_tag_at(const void *p)
{
    size_t slot =
        (size_t)((const char *)p - (const char *)cv_arena.members) / sizeof(struct cv_member);

    return slot < cv_arena.family->slots
               ? tag_of((uint32_t)slot, cv_load_acquire(&cv_arena.members[slot].state))
               : 0;
}

/* Finding a slot ***************************************************************************** */

static bool is_takeable(struct cv_member *m, uint64_t state)
{
    if (phase_of(state) == CV_GONE)
        return !cv_load_acquire(&m->kept) || cv_member_is_past(cv_load_acquire(&m->parent));
    return phase_of(state) == CV_FREE;
}

/* Before the slot, whose state is @state, gets its next generation: what that makes forgotten. */
static void note_disorder(struct cv_member *m, uint64_t state)
{
    uint64_t next = generation_of(state) + 1;
    bool orderly = cv_load_seq(&m->orderly) & orderly_bit(next);
    uint64_t before = cv_load_seq(&m->disorder);

    if (next <= ORDERLY_GENERATIONS || orderly || cv_load_seq(&m->state) != state)
        return;
    while (before < next - ORDERLY_GENERATIONS &&
           !cv_cas(&m->disorder, &before, next - ORDERLY_GENERATIONS))
        continue;
}

/* Takes slot @i for this process; its tag, or 0. */
static uint64_t take_slot(uint32_t i)
{
    struct cv_member *m = &cv_arena.members[i];
    uint64_t state = cv_load_acquire(&m->state);
    uint64_t born = state_make(generation_of(state) + 1, CV_BORN, getpid());

    if (!is_takeable(m, state))
        return 0;
    note_disorder(m, state);
    if (!cv_cas64(&m->state, state, born))
        return 0;
    cv_store_relaxed(&m->joined_ns, 0);
    cv_store_relaxed(&m->pid, 0);
    cv_store_relaxed(&m->told, 0);
    cv_store_relaxed(&m->owns, 0);
    (void)cv_fetch_or(&m->orderly, orderly_bit(generation_of(born)));
    for (unsigned k = 0; k < CV_MEMBER_ROOM / sizeof *m->room; k++)
        cv_store_relaxed(&m->room[k], 0); /* somebody may be looking for children */
    cv_store_relaxed(&m->kept, 0);
    cv_store_relaxed(&m->fresh, 0);
    cv_store_release(&m->parent, 0);
    return tag_of(i, born);
}

/* Makes more slots usable; false when there are no more. */
static bool add_slots(void)
{
    struct cv_family *family = cv_arena.family;
    uint32_t used = cv_load_acquire(&family->slots_used);
    uint32_t more = used < SLOTS_FIRST ? used + 2 : used * 2;

    if (used == family->slots)
        return false;
    if (more > family->slots)
        more = family->slots;
    if (cv_memory_claim(&cv_arena.memory, (char *)&cv_arena.members[used],
            (more - used) * sizeof(struct cv_member)) != 0)
        return false;
    (void)cv_cas32(&family->slots_used, used, more);
    return true;
}

static uint64_t find_slot(void)
{
    struct cv_family *family = cv_arena.family;
    uint32_t used = cv_load_acquire(&family->slots_used);
    uint32_t start = __atomic_fetch_add(&family->slot_rover, 1, __ATOMIC_RELAXED);

    for (uint32_t i = 0; i < used; i++) {
        uint64_t tag = take_slot((start + i) % used);

        if (tag)
            return tag;
    }
    return 0;
}

/* A free slot; else one whose process has died unnoticed; else a new one. */
static uint64_t reserve_slot(void)
{
    uint64_t tag = find_slot();

    if (!tag) {
        (void)cv_member_bury_all();
        tag = find_slot();
    }
    while (!tag && add_slots())
        tag = find_slot();
    if (!tag && cv_load_relaxed(&cv_arena.family->slots_used) == cv_arena.family->slots)
        (void)cv_fail(COVEY_ELIMIT, "the family has %u members, the most that it can have",
            cv_arena.family->slots);
    return tag; /* else cv_memory_claim() has said what is wrong */
}

/* Joining and leaving ************************************************************************ */

/* The slot is BORN, and this process's alone. */
static void come_to_life(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    cv_store_relaxed(&m->pid, (uint32_t)getpid());
    cv_store_relaxed(&m->joined_ns, cv_clock_since_boot());
    cv_store_relaxed(&m->told, (uint32_t)cv_thread_hold(m->life, CV_LIVES));
    (void)cv_fetch_and(&m->orderly, ~orderly_bit(generation_of(state)));
    cv_store_seq(&m->state, state_make(generation_of(state), CV_ALIVE, getpid()));
    cv_self.slot = m;
    cv_self.mark = cv_tag_mark(tag, getpid());
    cv_self.nonce = (uint64_t)getpid() << 32 | ++cv_arena.epoch;
    cv_self.detects = cv_arena.family->detects;
    cv_store_relaxed(&cv_self.base, (uintptr_t)cv_arena.memory.base);
    cv_store_release(&cv_self.span, cv_arena.memory.size - CV_OBJECT_MAX);
    cv_store_release(&cv_self.tag, tag);
}

int cv_member_join(bool count)
{
    int r = cv_family_open(NULL);
    uint32_t used;
    uint64_t tag;

    if (r != 0)
        return r;
    (void)cv_mutex_lock(&cv_self.joining);
    if (!cv_self.tag) {
        used = cv_load_acquire(&cv_arena.family->slots_used);
        tag = reserve_slot();
        if (tag) {
            come_to_life(tag);
            cv_store_relaxed(&cv_self.opens, 1);
            if (used != cv_load_acquire(&cv_arena.family->slots_used))
                (void)cv_member_bury_all(); /* whom only a member can: see cv_heap_sweep() */
        } else {
            r = covey_error_code();
        }
    } else if (count) {
        __atomic_fetch_add(&cv_self.opens, 1, __ATOMIC_SEQ_CST);
    }
    cv_mutex_unlock(&cv_self.joining);
    return r;
}

uint64_t cv_member_reserve(bool fresh)
{
    uint64_t tag = reserve_slot();

    if (tag) {
        struct cv_member *m = cv_member_of(tag);

        cv_store_relaxed(&m->kept, 1);
        cv_store_relaxed(&m->fresh, fresh);
        cv_store_release(&m->parent, cv_self.tag);
    }
    return tag;
}

void cv_member_cancel(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);

    cv_store_release(&m->kept, 0);
    (void)cv_member_end_born(tag);
}

bool cv_member_withdraw(uint64_t tag)
{
    uint64_t state = cv_load_acquire(&cv_member_of(tag)->state);

    return phase_of(state) == CV_BORN && who_of(state) == getpid() && cv_member_end_born(tag);
}

void cv_member_hand_over(uint64_t tag, pid_t pid)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    if (CV_RECOVERS(member_hand_over) && generation_of(state) == cv_tag_generation(tag) &&
        phase_of(state) == CV_BORN && who_of(state) != pid)
        (void)cv_cas64(&m->state, state, state_make(generation_of(state), CV_BORN, pid));
}

enum cv_phase cv_member_phase(uint64_t tag)
{
    uint64_t state = cv_load_acquire(&cv_member_of(tag)->state);

    return generation_of(state) == cv_tag_generation(tag) ? phase_of(state) : CV_GONE;
}

void cv_member_set_dead(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    if (generation_of(state) == cv_tag_generation(tag) && phase_of(state) == CV_ALIVE)
        (void)cv_cas64(&m->state, state, with_phase(state, CV_DEAD));
}

bool cv_member_end_born(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    return generation_of(state) == cv_tag_generation(tag) && phase_of(state) == CV_BORN &&
           cv_cas64(&m->state, state, with_phase(state, CV_DEAD)) && cv_member_bury(tag);
}

/* First the slot becomes this process's own, so that no burial of its parent takes it away. */
int cv_member_become(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);
    uint64_t mine = state_make(cv_tag_generation(tag), CV_BORN, getpid());

    if (generation_of(state) != cv_tag_generation(tag) || phase_of(state) != CV_BORN ||
        !(state == mine || cv_cas(&m->state, &state, mine) || state == mine))
        return cv_fail(COVEY_EDIED, "the parent died while it started this process");
    come_to_life(tag);
    cv_store_relaxed(&cv_self.opens, 1);
    return 0;
}

/* The slot was reserved by the dead process @context, which never started anybody in it. */
static bool abandon_one(uint64_t tag, enum cv_phase phase, void *context)
{
    uint64_t parent = *(uint64_t *)context;
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    if (CV_RECOVERS(member_abandon) && phase == CV_BORN && cv_load_acquire(&m->parent) == parent &&
        who_of(state) == (pid_t)cv_load_relaxed(&cv_member_of(parent)->pid) &&
        tag_of(cv_tag_slot(tag), state) == tag && phase_of(state) == CV_BORN)
        (void)cv_member_end_born(tag);
    return true;
}

/* A program that is linked statically has only those floors that it uses. */
static bool sweep_all(uint64_t tag)
{
    for (int i = 0; i < CV_SWEEPS; i++) {
        if (sweeps[i] && !sweeps[i](tag))
            return false;
    }
    cv_member_each(abandon_one, &tag);
    return !(cv_load_seq(&cv_member_of(tag)->owns) & CV_OWNS) || cv_heap_sweep(tag);
}

/*
 * Leaves what others must wait for, daemons that cannot be ended, for them to bury.
 *
 * Sweeps while still ALIVE, so that nobody else does at the same time, and says so before, so that
 * nothing is given to it behind the sweep; and lets go of the life words before the slot can be used
 * again, for they are on this thread's list.
 */
bool cv_member_leave(void)
{
    struct cv_member *m = cv_self.slot;
    uint64_t tag = cv_self.tag;
    uint64_t state = cv_load_acquire(&m->state);
    uint64_t end_ns = cv_clock_now() + LEAVE_PATIENCE_NS;
    bool swept;

    if (!cv_robust_holds(m->life))
        return false;
    cv_member_end_orderly();
    if (sweeps[CV_SWEEP_WATCHES])
        (void)sweeps[CV_SWEEP_WATCHES](tag); /* threads that use what it has */
    (void)cv_fetch_or(&m->owns, CV_LEAVING);
    while (!(swept = sweep_all(tag)) && cv_clock_now() < end_ns)
        cv_clock_sleep(CV_NS_PER_MS);
    cv_thread_release(m->life, CV_LIVES);
    cv_store_release(&cv_self.span, 0);
    cv_store_release(&cv_self.tag, 0);
    (void)cv_cas64(&m->state, state, with_phase(state, swept ? CV_GONE : CV_DEAD));
    return true;
}

/* Death ************************************************************************************** */

bool cv_member_is_past(uint64_t tag)
{
    uint64_t state = cv_load_acquire(&cv_member_of(tag)->state);

    return generation_of(state) != cv_tag_generation(tag) || phase_of(state) >= CV_DEAD;
}

uint64_t cv_member_marked(uint64_t mark)
{
    uint32_t slot = cv_tag_slot(mark);
    uint64_t tag;

    if (slot >=
        cv_load_acquire(&cv_arena.family->slots_used)) /* no mark, but other memory by now */
        return 0;
    tag = tag_of(slot, cv_load_acquire(&cv_arena.members[slot].state));
    return cv_mark_is_of(mark, cv_tag_mark(tag, 0)) ? tag : 0;
}

uint64_t cv_member_of_short(uint32_t short_tag)
{
    uint32_t slot = cv_tag_slot(short_tag);
    uint64_t tag;

    if (slot >= cv_load_acquire(&cv_arena.family->slots_used)) /* but the number of a queue */
        return 0;
    tag = tag_of(slot, cv_load_acquire(&cv_arena.members[slot].state));
    return cv_tag_short(tag) == short_tag ? tag : 0;
}

bool cv_member_short_is_past(uint32_t short_tag)
{
    uint64_t state = cv_load_acquire(&cv_member_of(short_tag)->state);

    return phase_of(state) >= CV_DEAD ||
           cv_tag_short(tag_of(cv_tag_slot(short_tag), state)) != short_tag;
}

bool cv_member_short_is_gone(uint32_t short_tag)
{
    uint64_t state = cv_load_acquire(&cv_member_of(short_tag)->state);

    return phase_of(state) == CV_GONE ||
           cv_tag_short(tag_of(cv_tag_slot(short_tag), state)) != short_tag;
}

void cv_member_note_owning(uint64_t tag)
{
    (void)cv_fetch_or(&cv_member_of(tag)->owns, CV_OWNS);
}

bool cv_member_takes(uint32_t short_tag)
{
    return !(cv_load_seq(&cv_member_of(short_tag)->owns) & CV_LEAVING) &&
           !cv_member_short_is_past(short_tag);
}

pid_t cv_member_short_pid(uint32_t short_tag)
{
    return (pid_t)cv_load_acquire(&cv_member_of(short_tag)->pid);
}

pid_t cv_member_pid(uint64_t tag)
{
    struct cv_member *m;
    pid_t pid;

    if (!tag)
        return 0;
    m = cv_member_of(tag);
    pid = (pid_t)cv_load_acquire(&m->pid);
    return generation_of(cv_load_acquire(&m->state)) == cv_tag_generation(tag) ? pid : 0;
}

static bool looks_alive(const struct cv_member *m)
{
    uint32_t word = cv_load_acquire(&m->life[0].word);

    return cv_load_relaxed(&m->told) && !(word & FUTEX_OWNER_DIED) && (word & FUTEX_TID_MASK);
}

bool cv_member_is_ending(uint64_t tag)
{
    const struct cv_member *m = cv_member_of(tag);

    return (cv_load_relaxed(&m->told) && !looks_alive(m)) || cv_member_is_past(tag);
}

/* There is no such process, or it has ended, without having come to life. */
static bool is_stillborn(const struct cv_member *m, uint64_t state)
{
    uint64_t parent = cv_load_acquire(&m->parent);
    pid_t who = who_of(state);

    if (who == getpid() || !CV_RECOVERS(member_stillborn))
        return false;
    if (parent && cv_member_is_past(parent) && who == cv_member_pid(parent))
        return true;
    return !cv_pid_lives(who, UINT64_MAX, NULL, 0);
}

static bool is_proved_dead(struct cv_member *m, uint64_t state, uint64_t patience_ns)
{
    /* Emulators that do not mark the words have their own idea of a process's memory, too. */
    const struct cv_descriptor *memory = cv_load_relaxed(&m->told) ? &cv_arena.memory.file : NULL;

    if (phase_of(state) == CV_BORN)
        return is_stillborn(m, state);
    return !looks_alive(m) && !cv_pid_lives((pid_t)cv_load_relaxed(&m->pid),
                                  cv_load_relaxed(&m->joined_ns), memory, patience_ns);
}

bool cv_member_is_dead(uint64_t tag, uint64_t patience_ns)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    if (generation_of(state) != cv_tag_generation(tag) || phase_of(state) >= CV_DEAD)
        return true;
    if (tag == cv_self.tag || !is_proved_dead(m, state, patience_ns))
        return false;
    /* Had it come to life or the slot been used again in between, its state would be another. */
    return cv_cas64(&m->state, state, with_phase(state, CV_DEAD)) || cv_member_is_past(tag);
}

void cv_member_end_orderly(void)
{
    if (cv_arena.family && cv_self.tag)
        (void)cv_fetch_or(&cv_self.slot->orderly, orderly_bit(cv_tag_generation(cv_self.tag)));
}

/* When the program calls exit(), or returns from main(). */
__attribute__((destructor)) static void at_exit(void)
{
    cv_member_end_orderly();
}

/*
 * In this order: while the state does not say otherwise, the bit was that generation's; and when it does,
 * what is forgotten has been noted.
 */
bool cv_member_was_orderly(uint64_t mark)
{
    struct cv_member *m = cv_member_of(mark);
    uint64_t orderly = cv_load_acquire(&m->orderly);
    uint64_t now = generation_of(cv_load_acquire(&m->state));
    uint64_t disorder = cv_load_acquire(&m->disorder);
    uint64_t age = (now - cv_mark_generation(mark)) & cv_mark_generation(UINT64_MAX);

    if (age < ORDERLY_GENERATIONS)
        return orderly & orderly_bit(cv_mark_generation(mark));
    return disorder == 0 || age < now - disorder;
}

bool cv_member_bury(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);
    uint64_t state = cv_load_acquire(&m->state);

    if (generation_of(state) != cv_tag_generation(tag) || phase_of(state) == CV_GONE)
        return true;
    if (phase_of(state) != CV_DEAD)
        return false;
    if (CV_RECOVERS(member_burial) && !sweep_all(tag))
        return false;
    (void)cv_cas64(&m->state, state, with_phase(state, CV_GONE));
    return true;
}

void cv_member_each(bool (*visit)(uint64_t tag, enum cv_phase phase, void *context), void *context)
{
    uint32_t used = cv_load_acquire(&cv_arena.family->slots_used);

    for (uint32_t i = 0; i < used; i++) {
        uint64_t state = cv_load_acquire(&cv_arena.members[i].state);

        if (phase_of(state) != CV_FREE && !visit(tag_of(i, state), phase_of(state), context))
            return;
    }
}

static bool bury_one(uint64_t tag, enum cv_phase phase, void *context)
{
    unsigned *living = context;

    if (phase == CV_GONE)
        return true;
    if (cv_member_is_dead(tag, 0))
        (void)cv_member_bury(tag);
    else
        *living += phase == CV_ALIVE;
    return true;
}

unsigned cv_member_bury_all(void)
{
    unsigned living = 0;

    cv_member_each(bury_one, &living);
    return living;
}

void cv_member_forget(uint64_t tag)
{
    struct cv_member *m = cv_member_of(tag);

    if (generation_of(cv_load_acquire(&m->state)) == cv_tag_generation(tag))
        cv_store_release(&m->kept, 0);
}

/* Watching *********************************************************************************** */

/* Claims one of the member's life words for this watcher; CV_LIVES if all are taken. */
static unsigned claim_life(struct cv_member *m)
{
    uint64_t mine = cv_self.tag;
    unsigned start = cv_tag_slot(mine);

    for (unsigned n = 0; n < CV_LIVES; n++) {
        unsigned i = (start + n) % CV_LIVES;
        uint64_t other = cv_load_acquire(&m->watcher[i]);

        if ((other == 0 || (CV_RECOVERS(member_watchers) && cv_member_is_past(other))) &&
            cv_cas64(&m->watcher[i], other, mine))
            return i;
    }
    return CV_LIVES;
}

enum cv_life_state cv_member_watch(uint64_t tag, struct cv_life *life, struct cv_futex_watch *watch)
{
    struct cv_member *m = cv_member_of(tag);
    uint32_t word;

    if (cv_member_is_dead(tag, CV_NS_PER_MS))
        return CV_LIFE_OVER;
    if (!looks_alive(m) || (life->index = claim_life(m)) == CV_LIVES)
        return CV_LIFE_POLL;
    life->tag = tag;
    watch->word = &m->life[life->index].word;
    word = cv_load_acquire(watch->word);
    do {
        if ((word & FUTEX_OWNER_DIED) || !(word & FUTEX_TID_MASK)) {
            cv_member_unwatch(life);
            return CV_LIFE_POLL;
        }
    } while (!(word & FUTEX_WAITERS) && !cv_cas(watch->word, &word, word | FUTEX_WAITERS));
    watch->seen = word | FUTEX_WAITERS;
    /* A reuse of the slot since the look above: what was marked is somebody else's life. */
    if (cv_member_is_past(tag)) {
        cv_member_unwatch(life);
        return CV_LIFE_OVER;
    }
    return CV_LIFE_WATCHED;
}

void cv_member_unwatch(const struct cv_life *life)
{
    (void)cv_cas64(&cv_member_of(life->tag)->watcher[life->index], cv_self.tag, 0);
}
