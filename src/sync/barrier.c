/* SPDX-License-Identifier: MIT */
/*
 * The barrier: one word, changed by compare-exchange only, and a cell for each process.
 *
 *   bit 0       sleepers: somebody may be sleeping
 *   bits 1-2    phase: FILLING; ACTING: all have come, and the last runs its action; BROKEN
 *   bits 3-31   round: its number
 *   bits 32-45  arrived: how many have come in this round
 *   bits 48-63  past: of the last 16 rounds, latest first, 1 for each that was not completed
 *
 * To come is to raise @arrived; with the last one the round is complete: the next round, with
 * nobody arrived, is the commit, and all who wait see that the number is another. Whether theirs was
 * completed, @past tells. Of rounds before those, @reset tells: which one a reset has ended last, plus 1,
 * stored before the word is changed; 0: none. Who comes back so late is told that his was completed if
 * there was no reset since. With an action there is ACTING in between, and the last party leads out of
 * it. BROKEN keeps the number; only a reset leads out of it, to the next round.
 *
 * A process's cell (sync/cells.h) says in which round it has last come, written before it raises
 * @arrived, and above that whether it has left since, and how many of its threads have come in that round.
 * They share the cell: so it is changed by compare-exchange, from what it said before the word was
 * looked at. So the parties that are there are those of this round, and expected are those of the round
 * before that have not left, if that was completed. Before it sleeps, each looks whether one of them is
 * dead, and breaks the barrier then. It watches the lives of those whose cells follow its own, as far as
 * the next party that is there, which watches on. It sets the bit for sleepers, and sleeps while the lower
 * half of the word is the same. Who changes that half, because a round ends, breaks, or the action begins
 * (where no alarm is pending, and whoever runs it has to be watched), takes the bit away with it and wakes
 * all.
 *
 * @looks counts the changes that sleepers have to know of before they fall asleep, and is compared, too.
 * It is raised by a party that nobody watches, for it was not expected, when its cell says that it is
 * there and before it raises @arrived: it may have died already, and its alarm found nobody asleep. (The
 * cell also says that it was, for other threads that come beside this one.) And by one that gives up
 * before it has come, for an action was running, when it has taken back what its cell said: it does not
 * watch on any more. That one wakes all.
 *
 *   a kill   of a party after it has raised @arrived breaks the round: its cell says this round, and the
 *            alarm wakes those who sleep; before it, that may be so. Of the last one after its commit: the
 *            alarm wakes the others, who see it. It leaves a cell, which whoever finds it makes free:
 *            after having broken the round if that party is missing in it, and only as long as the same
 *            round lasts, for in the next one it may be expected. Its round is read when the death is
 *            known: then it is the last that the dead one has come in.
 *
 * @why says why the barrier broke: a reason, the pid, and for what round; a sentence for people, stored
 * before the word is changed.
 */
#include "base/error.h"
#include "base/mutation.h"
#include "sync/cells.h"
#include "sync/wait.h"

#include <covey/barrier.h>

#include <limits.h>
#include <unistd.h>

enum {
    PARTIES_MAX = (1 << 14) - 1,
    PAST_ROUNDS = 16,
    ROUND_FIRST = 2, /* cells say 0 at first: nobody is expected */
    ROUND_MAX = (1 << 29) - 1,
};

enum phase {
    FILLING,
    ACTING,
    BROKEN,
};

enum reason {
    ABORTED,
    TIMED_OUT,
    INTERRUPTED,
    DIED,
    ACTION_FAILED,
};

_Static_assert(sizeof(struct cv_cells) == sizeof((covey_barrier *)0)->cells_, "the cells fit");

static struct cv_cells *cells_of(covey_barrier *b)
{
    return (struct cv_cells *)(void *)b->cells_;
}

#define LEFT     (UINT64_C(1) << 32) /* in a cell, above the round */
#define TOLD     (UINT64_C(1) << 33)
#define COMER    (UINT64_C(1) << 34) /* and above that how many of them */
#define SLEEPERS UINT64_C(1)
#define ARRIVAL  (UINT64_C(1) << 32)

static uint32_t arrived(uint64_t w)
{
    return w >> 32 & PARTIES_MAX;
}

static enum phase phase_of(uint64_t w)
{
    return (enum phase)(w >> 1 & 3);
}

static uint32_t round_of(uint64_t w)
{
    return (uint32_t)w >> 3;
}

static uint32_t round_after(uint32_t round)
{
    return (round + 1) & ROUND_MAX;
}

static uint64_t word_make(uint32_t n, enum phase phase, uint32_t round, uint64_t past)
{
    return past << 48 | n * ARRIVAL | (uint32_t)(round << 3) | (uint32_t)phase << 1;
}

static uint64_t with_phase(uint64_t w, uint32_t n, enum phase phase)
{
    return word_make(n, phase, round_of(w), w >> 48);
}

static uint64_t next_round(uint64_t w, bool completed)
{
    return word_make(0, FILLING, round_after(round_of(w)), (w >> 48) << 1 | !completed);
}

static uint32_t rounds_since(uint64_t w, uint32_t round)
{
    return (round_of(w) - round) & ROUND_MAX;
}

/* The round has ended, one of the last: was it completed? */
static bool was_completed(uint64_t w, uint32_t round)
{
    return !(w >> 48 >> (rounds_since(w, round) - 1) & 1);
}

/* The same for any round. */
static bool was_completed_once(covey_barrier *b, uint32_t round)
{
    uint32_t reset = cv_load_seq(&b->reset_);
    uint64_t w = cv_load_seq(&b->word_);

    if (rounds_since(w, round) <= PAST_ROUNDS)
        return was_completed(w, round);
    return reset == 0 || rounds_since(w, round) < rounds_since(w, reset - 1);
}

/* What a cell says: is its process there? Is it expected? */
static bool is_there(uint64_t w, uint64_t cell)
{
    return cell >= COMER && (uint32_t)cell == round_of(w);
}

static bool is_expected(uint64_t w, uint64_t cell)
{
    uint32_t round = (uint32_t)cell;

    return cell >= COMER && !(cell & LEFT) && round_after(round) == round_of(w) &&
           was_completed(w, round);
}

/* The lower half of the word was that of @w, and has changed; or the count of looks. */
static void wake_all(covey_barrier *b, uint64_t w)
{
    if (w & SLEEPERS)
        (void)cv_futex_wake(cv_alarm_gong(b->alarm_).word, INT_MAX);
}

/* Breaking *********************************************************************************** */

/* True if this call has broken it; false: it is broken, or the round is over. */
static bool break_round(covey_barrier *b, uint32_t round, enum reason reason, pid_t pid)
{
    uint64_t w = cv_load_seq(&b->word_);

    while (round_of(w) == round && phase_of(w) != BROKEN) {
        cv_store_release(
            &b->why_, (uint64_t)round << 32 | (uint64_t)reason << 24 | (uint64_t)(uint32_t)pid);
        if (cv_cas(&b->word_, &w, with_phase(w, arrived(w), BROKEN))) {
            wake_all(b, w);
            return true;
        }
    }
    return false;
}

static int fail_broken(covey_barrier *b, uint32_t round)
{
    static const char *const texts[] = {
        [ABORTED] = "has aborted it",
        [TIMED_OUT] = "has waited as long as it would",
        [INTERRUPTED] = "was interrupted by a signal",
        [DIED] = "is needed, and has died",
        [ACTION_FAILED] = "has failed in its action",
    };
    uint64_t why = cv_load_acquire(&b->why_);

    if (why >> 32 != round || (why >> 24 & 0xff) >= sizeof texts / sizeof *texts)
        return cv_fail(COVEY_EBROKEN, "the barrier is broken: it was reset");
    return cv_fail(COVEY_EBROKEN, "the barrier is broken: process %d %s", (int)(why & 0xffffff),
        texts[why >> 24 & 0xff]);
}

static int fail_timed_out(covey_barrier *b, double timeout_s)
{
    uint64_t w = cv_load_relaxed(&b->word_);

    if (phase_of(w) == ACTING)
        return cv_fail(COVEY_ETIMEDOUT,
            "all %u had come to barrier %p without this one, and one acted for %g s", b->parties_,
            (void *)b, timeout_s);
    return cv_fail(COVEY_ETIMEDOUT, "%u of %u had come to barrier %p within %g s", arrived(w),
        b->parties_, (void *)b, timeout_s);
}

static bool is_dead(uint64_t mark)
{
    uint64_t tag = cv_member_marked(mark);

    return !tag || cv_member_is_dead(tag, 0);
}

/*
 * Breaks the barrier if one who has died, whose @cell this was, is there or expected. By the word as it
 * is now: who knows an older one only takes the dead for one of a round to come.
 */
static bool break_for(covey_barrier *b, uint64_t mark, uint64_t cell)
{
    for (;;) {
        uint64_t w = cv_load_seq(&b->word_);

        if (!is_there(w, cell) && !(CV_RECOVERS(barrier_expected) && is_expected(w, cell) &&
                                      !cv_member_was_orderly(mark)))
            return false;
        if (phase_of(w) == BROKEN || break_round(b, round_of(w), DIED, cv_mark_pid(mark)))
            return true;
    }
}

/*
 * True if the word may have changed: the barrier is broken because one has died without whom it cannot be
 * completed. What the cell of a dead one says is his last word, if it is still his after that was read.
 */
static bool break_for_the_dead(covey_barrier *b)
{
    bool broken = false;
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(cells_of(b), i)); i++) {
        uint64_t mark = cv_load_seq(&cell->mark);
        uint64_t last;

        if (!mark || !CV_RECOVERS(barrier_dead) || !is_dead(mark))
            continue;
        last = cv_load_seq(&cell->value);
        if (cv_load_seq(&cell->mark) != mark)
            continue;
        broken |= break_for(b, mark, last);
        (void)cv_cas64(&cell->mark, mark, 0);
    }
    return broken;
}

/* Coming ************************************************************************************* */

/* This process's cell; 0 with a message. */
static uint32_t own_cell(covey_barrier *b)
{
    uint32_t mine = cv_cells_claim(cells_of(b));

    if (!mine && CV_RECOVERS(barrier_cells)) {
        (void)break_for_the_dead(b); /* also cells of those who only found it broken */
        mine = cv_cells_claim(cells_of(b));
    }
    return mine ? mine : cv_cells_claim_or_extend(cells_of(b));
}

/* Whom to watch: see above. */
static unsigned lives_to_watch(covey_barrier *b, uint64_t w, uint32_t mine, uint64_t *tags)
{
    uint32_t cells = 0;
    unsigned n = 0;

    while (cv_cells_at(cells_of(b), cells + 1))
        cells++;
    for (uint32_t k = 0; k + 1 < cells && n < CV_WAIT_TAGS_MAX; k++) {
        struct cv_cell *cell = cv_cells_at(cells_of(b), (mine + k) % cells + 1);
        uint64_t mark = cv_load_relaxed(&cell->mark);
        uint64_t last = cv_load_relaxed(&cell->value);

        if (!mark || !(is_there(w, last) || is_expected(w, last)))
            continue;
        tags[n++] = cv_member_marked(mark);
        if (is_there(w, last))
            break;
    }
    return n;
}

/* False when the lower half of the word is not that of @w any more. */
static bool set_sleepers(covey_barrier *b, uint64_t w)
{
    uint64_t now = w;

    while (!(now & SLEEPERS)) {
        if (cv_cas(&b->word_, &now, now | SLEEPERS))
            return true;
        if (((uint32_t)now ^ (uint32_t)w) & ~(uint32_t)SLEEPERS)
            return false;
    }
    return true;
}

static int sleep_at(covey_barrier *b, struct cv_wait *wait, uint64_t w, uint32_t mine)
{
    struct cv_futex_watch words[2] = {cv_word_low(&b->word_, w | SLEEPERS)};
    uint64_t tags[CV_WAIT_TAGS_MAX];
    unsigned n;

    if (cv_wait_spin(wait, words[0].word, (uint32_t)w))
        return CV_WAIT_AGAIN;
    words[1] = (struct cv_futex_watch){&b->looks_, cv_load_seq(&b->looks_)};
    if (break_for_the_dead(b))
        return CV_WAIT_AGAIN;
    n = lives_to_watch(b, w, mine, tags);
    if (wait->deadline_ns != 0 && !set_sleepers(b, w))
        return CV_WAIT_AGAIN;
    return cv_wait_sleep(wait, b->alarm_, cv_alarm_gong(b->alarm_), words, 2, tags, n);
}

/* Waits for the end of the round: 1, COVEY_EBROKEN, or what has ended the waiting before. */
static int wait_for_all(covey_barrier *b, struct cv_wait *wait, uint32_t round, uint32_t mine)
{
    int waited = 0;

    for (;;) {
        uint64_t w = cv_load_seq(&b->word_);

        if (round_of(w) != round)
            return was_completed_once(b, round) ? 1 : COVEY_EBROKEN;
        if (phase_of(w) == BROKEN)
            return COVEY_EBROKEN;
        if (waited < 0 &&
            break_round(b, round, waited == COVEY_ETIMEDOUT ? TIMED_OUT : INTERRUPTED, getpid()))
            return waited;
        if (waited >= 0)
            waited = sleep_at(b, wait, w, mine);
    }
}

/* One that comes. */
struct comer {
    struct cv_cell *cell;
    uint32_t said; /* by the cell: that it is there, in which round, plus 1 */
    int waited;    /* how its last sleep has ended: below 0, it will not wait any more */
};

/* The cell of one that nobody watches says that it comes: before it does, those who fall asleep look again. */
static void tell(covey_barrier *b, struct cv_cell *cell, uint32_t round)
{
    uint64_t now;

    (void)cv_fetch_add(&b->looks_, 1);
    now = cv_load_seq(&cell->value);
    while ((uint32_t)now == round && !(now & TOLD) && !cv_cas(&cell->value, &now, now | TOLD))
        continue;
}

/* One more comes in the round of @w. False if the cell does not say @last any more. */
static bool say(covey_barrier *b, struct comer *c, uint64_t w, uint64_t last)
{
    bool watched = (last & TOLD) && (is_there(w, last) || is_expected(w, last));
    uint64_t same =
        (uint32_t)last == round_of(w) ? last & ~LEFT : round_of(w) | (watched ? TOLD : 0);

    if (!cv_cas64(&c->cell->value, last, same + COMER))
        return false;
    c->said = round_of(w) + 1;
    if (!watched)
        tell(b, c->cell, round_of(w));
    return true;
}

/* It has not come, and waits no longer. So it watches nobody any more. */
static void unsay(covey_barrier *b, struct comer *c)
{
    uint64_t last = cv_load_seq(&c->cell->value);

    if (!c->said)
        return;
    while ((uint32_t)last == c->said - 1 && !cv_cas(&c->cell->value, &last, last - COMER))
        continue;
    (void)cv_fetch_add(&b->looks_, 1);
    wake_all(b, cv_load_seq(&b->word_));
}

/* Comes to the barrier: 0, and *seen is the word before; that of the last party is not changed yet. */
static int come(
    covey_barrier *b, struct cv_wait *wait, uint32_t mine, struct comer *c, uint64_t *seen)
{
    for (;;) {
        uint64_t last = cv_load_seq(&c->cell->value);
        uint64_t w = cv_load_seq(&b->word_);

        *seen = w;
        if (phase_of(w) == BROKEN)
            return COVEY_EBROKEN;
        if (c->waited < 0) {
            unsay(b, c);
            return c->waited;
        }
        if (phase_of(w) == ACTING) { /* one party too many: the next round is its */
            c->waited = sleep_at(b, wait, w, mine);
            continue;
        }
        if (c->said != round_of(w) + 1 && !say(b, c, w, last))
            continue; /* so has another thread of this process, perhaps in a later round */
        if (arrived(w) + 1 < b->parties_) {
            if (cv_cas64(&b->word_, w, w + ARRIVAL))
                return 0;
        } else if (!break_for_the_dead(b)) {
            return 0;
        }
    }
}

/* The last to come leads all into the next round: 1; 0: the word has changed before. */
static int complete(covey_barrier *b, uint64_t w, int (*action)(void *), void *context)
{
    uint64_t acting = with_phase(w, b->parties_, ACTING);
    int failed;

    if (!action) {
        if (!cv_cas64(&b->word_, w, next_round(w, true)))
            return 0;
        wake_all(b, w);
        return 1;
    }
    if (!cv_cas64(&b->word_, w, acting))
        return 0;
    if (CV_RECOVERS(barrier_act))
        wake_all(b, w); /* to be watched */
    cv_alarm_clear();
    failed = action(context);
    if (CV_RECOVERS(barrier_act_alarm))
        cv_alarm_set(b->alarm_);
    if (failed) {
        (void)break_round(b, round_of(w), ACTION_FAILED, getpid());
        return cv_fail(COVEY_ETASK, "the barrier's action returned %d", failed);
    }
    while (!cv_cas(&b->word_, &acting, next_round(acting, true))) {
        if (phase_of(acting) != ACTING || round_of(acting) != round_of(w))
            return COVEY_EBROKEN; /* it may be in another's action by now */
    }
    wake_all(b, acting);
    return 1;
}

static int wait_at(
    covey_barrier *b, struct cv_wait *wait, int (*action)(void *), void *context, uint32_t *round)
{
    uint32_t mine = own_cell(b);
    struct comer c = {.cell = mine ? cv_cells_at(cells_of(b), mine) : NULL};
    uint64_t w = 0;
    int r;

    if (!mine)
        return covey_error_code();
    do {
        r = come(b, wait, mine, &c, &w);
        *round = round_of(w);
        if (r != 0)
            return r;
        if (arrived(w) + 1 == b->parties_)
            r = complete(b, w, action, context);
        else
            r = wait_for_all(b, wait, *round, mine);
    } while (r == 0);
    return r < 0 ? r : (int)arrived(w);
}

/* Public ************************************************************************************* */

int covey_barrier_wait_then(
    covey_barrier *barrier, int (*action)(void *context), void *context, double timeout_s)
{
    struct cv_wait wait;
    uint32_t round = 0;
    int r = cv_object_check(barrier, CV_BARRIER);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, barrier, CV_BARRIER);
    if (r != 0)
        return r;
    cv_alarm_set(barrier->alarm_);
    r = wait_at(barrier, &wait, action, context, &round);
    cv_wait_end(&wait);
    cv_alarm_clear();
    if (r == COVEY_EBROKEN)
        return fail_broken(barrier, round);
    return r == COVEY_ETIMEDOUT ? fail_timed_out(barrier, timeout_s) : r;
}

int covey_barrier_wait(covey_barrier *barrier, double timeout_s)
{
    return covey_barrier_wait_then(barrier, NULL, NULL, timeout_s);
}

int covey_barrier_init(covey_barrier *barrier, unsigned parties)
{
    int r = cv_object_place(barrier, sizeof *barrier, CV_BARRIER);

    if (r != 0)
        return r;
    if (parties == 0 || parties > PARTIES_MAX)
        return cv_fail(COVEY_EINVAL, "parties is %u: 1 to %d are possible", parties, PARTIES_MAX);
    cv_alarm_init(barrier->alarm_, 0);
    barrier->parties_ = parties;
    cv_store_relaxed(&barrier->why_, 0);
    cv_store_relaxed(&barrier->reset_, 0);
    cv_cells_init(cells_of(barrier));
    cv_store_relaxed(&barrier->word_, word_make(0, FILLING, ROUND_FIRST, 0));
    cv_object_begin(barrier, CV_BARRIER);
    return 0;
}

int covey_barrier_leave(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);
    struct cv_cell *cell;

    if (r != 0)
        return r;
    for (uint32_t i = 1; (cell = cv_cells_at(cells_of(barrier), i)); i++) {
        if (cv_load_relaxed(&cell->mark) == cv_self.mark)
            (void)cv_fetch_or(&cell->value, LEFT);
    }
    return 0;
}

int covey_barrier_abort(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);

    if (r != 0)
        return r;
    cv_alarm_set(barrier->alarm_);
    (void)break_round(barrier, round_of(cv_load_seq(&barrier->word_)), ABORTED, getpid());
    cv_alarm_clear();
    return 0;
}

int covey_barrier_reset(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);
    uint64_t w;

    if (r != 0)
        return r;
    cv_alarm_set(barrier->alarm_);
    w = cv_load_seq(&barrier->word_);
    do {
        cv_store_seq(&barrier->reset_, round_of(w) + 1);
    } while (!cv_cas(&barrier->word_, &w, next_round(w, false)));
    wake_all(barrier, w);
    cv_alarm_clear();
    return 0;
}

int covey_barrier_is_broken(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);

    return r != 0 ? r : phase_of(cv_load_seq(&barrier->word_)) == BROKEN;
}

int covey_barrier_parties(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);

    return r != 0 ? r : (int)barrier->parties_;
}

int covey_barrier_waiting(covey_barrier *barrier)
{
    int r = cv_object_check(barrier, CV_BARRIER);
    uint64_t w;

    if (r != 0)
        return r;
    w = cv_load_seq(&barrier->word_);
    return phase_of(w) == BROKEN ? 0 : (int)arrived(w);
}

int covey_barrier_destroy(covey_barrier *barrier)
{
    int waiting = covey_barrier_waiting(barrier);

    if (waiting < 0)
        return waiting;
    if (waiting > 0)
        return cv_fail(COVEY_ESTATE, "%d wait at barrier %p", waiting, (void *)barrier);
    cv_cells_end(cells_of(barrier));
    cv_object_end(barrier);
    return 0;
}
