/* SPDX-License-Identifier: MIT */
/*
 * Bells (sync/wait.h) for the models of what waits by them, behind kernel.pml: ringing, arming and rallying
 * are one step each; wait.pml has them in full. The model defines
 *
 *   BELLS   how many words from GONG on are gongs
 *   GONG    the first of them
 *
 * A gong only counts, so it is here who has seen it as it is.
 */
#define MANY  0
#define QUIET 1
#define ONE   2 /* and the number of a process */

byte bell[BELLS]; /* MANY is 0 */
byte heard[BELLS];

#define is_my_bell(b) (bell[b] == MANY || bell[b] == ONE + me)

/* Part of a step: cv_bell_arm() */
inline arm(b)
{
    heard[b] = heard[b] | BIT(me);
    bell[b] = (is_my_bell(b) -> bell[b] : (bell[b] == QUIET -> ONE + me : MANY))
}

/* Part of a step: cv_bell_disarm(), and what was heard is forgotten. */
inline disarm(b)
{
    heard[b] = heard[b] & ~BIT(me);
    bell[b] = (bell[b] == ONE + me -> QUIET : bell[b])
}

/* Part of a step: is it as it was armed? */
#ifdef NO_COMPARE_GONG
#define is_as_armed(b) true
#else
#define is_as_armed(b) (heard[b] & BIT(me))
#endif

/* cv_bell_ring() for one sleeper or for @all */
inline ring(b, all)
{
    atomic {
        if
        :: bell[b] == QUIET
        :: bell[b] != QUIET && queued[GONG + b] == 0 -> heard[b] = 0; bell[b] = QUIET
        :: bell[b] != QUIET && queued[GONG + b] != 0 && all -> heard[b] = 0; wake_all(GONG + b)
        :: bell[b] != QUIET && queued[GONG + b] != 0 && !(all) -> heard[b] = 0; wake_one(GONG + b, n); n = 0
        fi
    }
}

/* Part of a step: strikes all of them, and wakes those who have none; needs @i. */
inline rally_all()
{
    rally();
    i = 0;
    do
    :: i < BELLS -> heard[i] = 0; i++
    :: else -> break
    od;
    i = 0
}
