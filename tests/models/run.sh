#!/bin/bash
# Exhausts the models of covey's protocols, and sees to it that they can fail: each mutant lacks one
# step of a protocol, and an error must be found in it. Prints a line for each; fails if one does.
#
#   tests/models/run.sh            all but the deep ones
#   tests/models/run.sh --deep     all
#   tests/models/run.sh WORD...    only the lines below that contain one of the words
#
# A line is: perhaps "deep", for more time than a change has to be tested; what is expected (holds: the properties do; ends: every run does; fails, loops: not so),
# the model, the mutant or -, and the size of the model. To see an error of a model, in the order in
# which it comes about, in an empty directory:
#
#   spin -DMUTANT -DSIZE... -a .../wait.pml && gcc -DSAFETY -DNOREDUCE -DREACH -o pan pan.c &&
#       ./pan -i -m200; spin -DMUTANT -DSIZE... -t -p -g .../wait.pml
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

lines() {
    local wait="IMPATIENT=1 WAITERS=2 WAKERS=2 COMMITS=1 KILLS=1"
    local leave="IMPATIENT=1 WAITERS=2 WAKERS=0 COMMITS=1 KILLS=1 LEAVER"
    local lock="IMPATIENT=1 N=3"
    local rwlock="N=3 TWICE=9 IMPATIENT=0 PERMITS=7 STAYS=0 KILLS=1"
    local semaphore="N=3 PERMITS=1 TWICE=9 SEVERAL=9 HELD=0 TRIES=0 IMPATIENT=0 STAYS=0 KILLS=1"
    local events="$semaphore EVENTS N=4 TAKERS=2"
    local barrier="N=3 PARTIES=3 ROUNDS=1 OUTSIDERS=0 ACTS=0 IMPATIENT=0 STAYS=0 KILLS=1"
    local pair="N=2 PARTIES=2 ROUNDS=1 OUTSIDERS=0 ACTS=0 IMPATIENT=0 STAYS=0 KILLS=1"
    local condition="WAITERS=2 NOTIFIERS=1 NOTES=1 BURIERS=0 TWICE=9 TIMES=2 IMPATIENT=0 KILLS=1"
    local chain="PUTS=4 BLOCKS=2 WIDENS=0 KILLS=1"
    local claims="ITEMS=2 TAKERS=2 JOINERS=1 UNCLAIMS=0 LEAVES=9 END=1 PUTS=0 KILLS=1"
    local users="MEMBERS=2 CELLS=2 HOLD=1 EXPECT=0 FORKS=0 COME=0 CHILD=9 NEEDED=0 TICKETS=1 ACTS=2 BURIERS=0 KILLS=1"
    local child="$users CELLS=3 CHILD=1 COME=2 TICKETS=0"
    local needed="$users TICKETS=0 NEEDED=1 HOLD=0 COME=3"
    local forks="$users TICKETS=0 EXPECT=1 HOLD=0 FORKS=2 COME=2"
    local pipe="N=3 STAYS=0 TICKET=0 KILLS=1"
    local queue="PLACES=3 SMALL=1 IMPATIENT=0 CLOSERS=0"

    cat <<END
deep holds wait - $wait IMPATIENT=0
holds wait - $wait WAKERS=1 KILLS=2
holds wait - $wait WAKERS=1 COMMITS=2 IMPATIENT=0
holds wait - $wait WAITERS=3 WAKERS=1 IMPATIENT=0 ONE_STEP KILLS=0
holds wait - $leave KILLS=2
holds wait - $leave WAKERS=1 KILLS=0
deep holds wait - $wait NAPS IMPATIENT=0
holds wait - $wait WAKERS=1 KILLS=2 NAPS
holds wait - $wait WAKERS=1 COMMITS=2 IMPATIENT=0 NAPS
ends wait - $wait WAKERS=1
ends wait - $wait WAKERS=1 NAPS
fails wait NAP_FOREVER $wait NAPS
loops wait RALLY_ON_ALARM $wait WAKERS=1 COMMITS=2
fails wait NO_ALARM_WAKER $wait
fails wait NO_ALARM_WAITER $wait
fails wait ALARM_AFTER_COMMIT $wait
fails wait ALARM_CLEAR_EARLY $wait
fails wait ALARM_QUEUED_LAST $wait
fails wait NO_RALLY $wait WAKERS=1 COMMITS=2 KILLS=2
fails wait QUIET_FIRST $wait
fails wait NO_COUNT $leave
fails wait QUIET_BY_STORE $wait
fails wait NO_ARM_COUNT $wait
fails wait DISARM_LATER $wait
fails wait DISARM_OTHERS $wait
fails wait GONG_AFTER_ARM $leave
fails wait NO_COMPARE_GONG $leave
fails wait NO_COMPARE_WORD $wait
fails wait TIMEOUT_BEFORE_WAKE $wait
fails wait LOOK_FIRST $leave
fails wait NO_LIFE $leave
fails wait NO_RING_LEAVE $leave
holds wait - IN_WORD $wait
ends wait - IN_WORD $wait WAKERS=1
fails wait IGNORE_BELL IN_WORD $wait
fails wait NO_COMPARE_BIT IN_WORD $wait
fails wait NO_SECOND_WAKE IN_WORD $wait
fails wait NO_ALARM_WAKER IN_WORD $wait
deep holds lock - $lock ROUNDS=2 KILLS=1
holds lock - $lock ROUNDS=1 KILLS=2
holds lock - $lock ROUNDS=1 KILLS=2 OTHER_RELEASES
deep holds lock - IMPATIENT=0 N=4 ROUNDS=1 KILLS=1
ends lock - $lock ROUNDS=1 KILLS=1
fails lock NO_NEXT_BY_TAKER $lock ROUNDS=1 KILLS=1
fails lock NO_NEXT_BY_QUITTER $lock ROUNDS=2 KILLS=1
fails lock NO_ALARM_WAITER $lock ROUNDS=1 KILLS=1
fails lock NO_ALARM_RELEASE $lock ROUNDS=1 KILLS=2 OTHER_RELEASES
fails lock NO_COMPARE_WORD $lock ROUNDS=1 KILLS=1
fails lock NO_LIFE $lock ROUNDS=1 KILLS=1
fails lock NO_POLL $lock ROUNDS=1 KILLS=1
fails lock TAKE_BY_STORE $lock ROUNDS=1 KILLS=1
holds rwlock - $rwlock WRITERS=1 STAYS=1 IMPATIENT=1
holds rwlock - $rwlock WRITERS=2 STAYS=1 IMPATIENT=1
holds rwlock - $rwlock WRITERS=1 TWICE=0
holds rwlock - $rwlock WRITERS=1 TWICE=2
holds rwlock - $rwlock WRITERS=2 TWICE=0
holds rwlock - $rwlock WRITERS=3 TWICE=0
holds rwlock - $rwlock WRITERS=1 STAYS=1 PERMITS=2
holds rwlock - $rwlock WRITERS=2 KILLS=2
ends rwlock - $rwlock WRITERS=1 STAYS=1
ends rwlock - $rwlock WRITERS=2 STAYS=1
fails rwlock LATE_GATE $rwlock WRITERS=1 TWICE=2
fails rwlock NO_TELL $rwlock WRITERS=1 STAYS=1
fails rwlock NO_ALARM_READ $rwlock WRITERS=1 STAYS=1
fails rwlock NO_ALARM_GATE $rwlock WRITERS=3 TWICE=0
fails rwlock NO_RING_LATE $rwlock WRITERS=2 STAYS=1
fails rwlock NO_RING_LAST $rwlock WRITERS=2 STAYS=1
fails rwlock NO_RING_QUIT $rwlock WRITERS=1 STAYS=1 IMPATIENT=1
fails rwlock NO_RING_NO_GATE $rwlock WRITERS=0 PERMITS=2 KILLS=0
loops rwlock NO_OPEN $rwlock WRITERS=1
loops rwlock NO_REAP $rwlock WRITERS=1
fails rwlock NO_LIVES_READER $rwlock WRITERS=1 STAYS=1
fails rwlock NO_LIVES_WRITER $rwlock WRITERS=2 STAYS=1
fails rwlock NO_LIFE_GATE $rwlock WRITERS=1 STAYS=1
fails rwlock NO_COMPARE_GONG $rwlock WRITERS=1 STAYS=1
fails rwlock NO_COMPARE_WORD $rwlock WRITERS=1 STAYS=1
fails rwlock NO_COMPARE_GATE $rwlock WRITERS=1 STAYS=1
fails rwlock NO_TOLD $rwlock WRITERS=1 STAYS=1
fails rwlock TOLD_ONCE $rwlock WRITERS=1 STAYS=1
holds semaphore - $semaphore TWICE=0 STAYS=1 IMPATIENT=1
holds semaphore - $semaphore PERMITS=2 SEVERAL=0
holds semaphore - $semaphore KILLS=2
holds semaphore - $semaphore OTHER TWICE=0 STAYS=1 IMPATIENT=1
holds semaphore - $events IMPATIENT=1
ends semaphore - $semaphore
ends semaphore - $events N=3 TWICE=2
fails semaphore TAKE_BY_STORE $semaphore
fails semaphore NO_COMPARE_LOW $semaphore
fails semaphore NO_COMPARE_HIGH $semaphore TWICE=0
fails semaphore NO_LIVES $semaphore
loops semaphore NO_REAP $semaphore
fails semaphore NO_BIT $semaphore
fails semaphore IGNORE_BIT $semaphore
fails semaphore NO_WAKE $semaphore
fails semaphore NO_SECOND_WAKE $semaphore
fails semaphore NO_ALARM_TAKER $semaphore
fails semaphore NO_ALARM_RELEASE $semaphore
fails semaphore NO_NEXT_BY_TAKER $semaphore TWICE=0
fails semaphore NO_NEXT_BY_QUITTER $semaphore N=4 HELD=1 TRIES=2 IMPATIENT=1
fails semaphore NO_SECOND_WAKE $events
fails semaphore NO_ALARM_TAKER $events N=3
fails semaphore NO_ALARM_RELEASE $events N=3
fails semaphore NO_NEXT_FOR_LEFT NO_WAKE_OTHERS $events
deep holds barrier - $barrier ROUNDS=2
deep holds barrier - $barrier KILLS=2
holds barrier - $barrier ACTS=1
deep holds barrier - $barrier PARTIES=2 ACTS=1 IMPATIENT=1
holds barrier - $barrier PARTIES=2 ROUNDS=2 OUTSIDERS=1
holds barrier - $pair ROUNDS=3 ACTS=2 IMPATIENT=1 STAYS=1 KILLS=2
ends barrier - $pair ROUNDS=2 ACTS=2 IMPATIENT=1 STAYS=1 KILLS=1
fails barrier CELL_LATE $pair
fails barrier NO_ALARM $pair
fails barrier NO_ALARM_ACTED $barrier ACTS=1 STAYS=1
fails barrier NO_RALLY $barrier
fails barrier NO_LIVES $pair ROUNDS=2 STAYS=1
fails barrier ONE_LIFE $barrier ROUNDS=2 STAYS=1
fails barrier NO_COMPARE_WORD $pair ROUNDS=2
fails barrier NO_COMPARE_LOOKS $barrier STAYS=1
fails barrier COME_UNSEEN $barrier STAYS=1
fails barrier NO_EXPECTED $pair ROUNDS=2
fails barrier NO_ORDERLY $barrier PARTIES=2
fails barrier NO_LEFT $pair ROUNDS=2 STAYS=1
fails barrier OLD_WORD $pair ROUNDS=2
fails barrier FREE_FIRST $barrier KILLS=2
fails barrier NO_LOOK_LAST $pair
fails barrier NO_WAKE_BREAK $pair ACTS=2 STAYS=1
fails barrier NO_WAKE_ACTING $pair ACTS=1
fails barrier COMPLETE_BY_STORE $pair IMPATIENT=1
fails barrier NO_RETRY $pair ACTS=1
fails barrier NO_COMPARE_ROUND $barrier PARTIES=1 ACTS=1 OUTSIDERS=1
fails barrier NO_PAST $barrier PARTIES=2 OUTSIDERS=1
fails barrier TIMEOUT_ANYWAY $pair IMPATIENT=1
fails barrier NO_UNSAY $barrier PARTIES=2 ACTS=1 IMPATIENT=1
fails barrier GO_SILENTLY $barrier PARTIES=2 ACTS=1 IMPATIENT=1 STAYS=1
fails barrier GO_UNSEEN $barrier PARTIES=2 ACTS=1 IMPATIENT=1 STAYS=1
holds condition - $condition IMPATIENT=1
holds condition - $condition NOTIFIERS=2 IN_TURN
holds condition - $condition BURIERS=1 IN_TURN
ends condition - $condition TWICE=0 TIMES=3 IMPATIENT=1 IN_TURN
fails condition NO_ALARM_WAITER $condition IN_TURN
fails condition ALARM_CLEAR_EARLY $condition IN_TURN
fails condition NO_ALARM_NOTIFIER $condition IN_TURN
fails condition NO_ALARM_BURIER $condition BURIERS=1 KILLS=2 IN_TURN
fails condition NO_RALLY $condition IN_TURN
fails condition NO_WAKE $condition IN_TURN
fails condition NO_COMPLETE_FIRST $condition NOTIFIERS=2 IN_TURN
fails condition NO_COMPLETE_BY_SLEEPER $condition IN_TURN
fails condition NO_COMPLETE_BY_BURIER $condition IN_TURN
fails condition NO_COMPARE_SIGNAL $condition IN_TURN
fails condition NO_COMPARE_NUMBER $condition
fails condition NO_LIVES $condition IN_TURN
fails condition NO_PASS_ON $condition IN_TURN
loops condition NO_BURY $condition IN_TURN
fails condition NO_IS_NOTIFIED $condition WAITERS=1 IMPATIENT=1 KILLS=0
fails condition NO_IS_WASTED $condition IN_TURN
fails condition GIVE_UP_BY_STORE $condition IMPATIENT=1 KILLS=0
fails condition NO_COUNT $condition WAITERS=1 TWICE=0 IMPATIENT=1 KILLS=0
fails condition NO_PASS_OVER $condition WAITERS=1 TWICE=0 TIMES=3 IMPATIENT=1 KILLS=0
fails condition NO_WORD_AGAIN $condition NOTES=2 TWICE=0 TIMES=3 IMPATIENT=1 KILLS=0 IN_TURN AWAKE
deep holds queue - $queue PRODUCERS=2 CONSUMERS=2 PUTS=1 GETS=1 KILLS=1
holds queue - $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=2 KILLS=1
holds queue - $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=1 KILLS=1 IMPATIENT=1
holds queue - $queue PRODUCERS=2 CONSUMERS=1 PUTS=1 GETS=2 KILLS=1 IMPATIENT=1
holds queue - $queue PRODUCERS=1 CONSUMERS=2 PUTS=1 GETS=2 KILLS=1 CLOSERS=1
holds queue - $queue PRODUCERS=2 CONSUMERS=1 PUTS=1 GETS=1 KILLS=1 CLOSERS=1
holds queue - $queue PRODUCERS=2 CONSUMERS=2 PUTS=1 GETS=1 KILLS=0 TOO_BIG
holds queue - $queue PRODUCERS=3 CONSUMERS=1 PUTS=1 GETS=1 KILLS=0 SMALL=2
holds queue - $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=1 KILLS=0 SMALL=9 PLACES=2
holds queue - $queue PRODUCERS=1 CONSUMERS=3 PUTS=2 GETS=1 KILLS=0 SMALL=9 IMPATIENT=1 LOCK_TIMEOUT
ends queue - $queue PRODUCERS=2 CONSUMERS=1 PUTS=1 GETS=2 KILLS=1
fails queue NO_ALARM_PUT $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=2 KILLS=1
fails queue NO_ALARM_GET $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=2 KILLS=1
fails queue NO_MEND $queue PRODUCERS=2 CONSUMERS=1 PUTS=2 GETS=2 KILLS=1
fails queue COUNT_BEFORE_COMMIT $queue PRODUCERS=2 CONSUMERS=1 PUTS=2 GETS=2 KILLS=1
fails queue NO_EMPTY_BEHIND $queue PRODUCERS=1 CONSUMERS=1 PUTS=4 GETS=5 KILLS=0 SMALL=9
fails queue NO_COMPARE_CELL $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=2 KILLS=1
fails queue NO_COMPARE_GONG $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=2 KILLS=1
fails queue NO_COMPARE_HEAD $queue PRODUCERS=1 CONSUMERS=1 PUTS=3 GETS=3 KILLS=0 SMALL=9 PLACES=2
holds queue - $queue PRODUCERS=1 CONSUMERS=2 PUTS=2 GETS=1 KILLS=1 SMALL=9 PLACES=2 BY_WORD
fails queue NO_COMPARE_TAIL $queue PRODUCERS=1 CONSUMERS=1 PUTS=3 GETS=1 KILLS=0 CLOSERS=1 SMALL=9 PLACES=2
fails queue NO_CLOSE_ROOM $queue PRODUCERS=1 CONSUMERS=1 PUTS=3 GETS=1 KILLS=0 CLOSERS=1 SMALL=9 PLACES=2
fails queue NO_PASS_ON_ROOM $queue PRODUCERS=3 CONSUMERS=1 PUTS=1 GETS=1 KILLS=0 SMALL=2
fails queue NO_PASS_ON_ITEM $queue PRODUCERS=2 CONSUMERS=2 PUTS=1 GETS=1 KILLS=0 TOO_BIG
fails queue NO_PASS_ON_AT_LOCK $queue PRODUCERS=1 CONSUMERS=3 PUTS=2 GETS=1 KILLS=0 SMALL=9 IMPATIENT=1 LOCK_TIMEOUT
holds chain - $chain
holds chain - $chain PUTS=3 KILLS=2
holds chain - $chain BLOCKS=1 PUTS=3
holds chain - $chain WIDENS=1 PUTS=3
fails chain NO_MEND_TAIL $chain
fails chain NO_GONE $chain
fails chain NO_MEND_IN $chain
fails chain FREE_ANYWAY $chain
fails chain NO_INTENT_IN $chain
fails chain EMPTY_LATE $chain
fails chain HOME_EARLY $chain
fails chain NO_MEND_OUT $chain
fails chain NO_INTENT_OUT $chain
fails chain NO_LOOK_OUT $chain
fails chain BACK_ANYWAY $chain
fails chain OWN_EARLY $chain
fails chain NO_OUTGOING $chain
fails chain SLOT_EARLY $chain
holds claims - $claims
deep holds claims - $claims REDELIVERS
deep holds claims - $claims REDELIVERS TAKERS=3 JOINERS=0 ITEMS=1
holds claims - $claims REDELIVERS JOINERS=0 UNCLAIMS=1
holds claims - $claims REDELIVERS JOINERS=0 END=0
fails claims WATCH_LATE $claims REDELIVERS JOINERS=0
fails claims NO_LIVES $claims REDELIVERS JOINERS=0
loops claims NO_REAP $claims REDELIVERS JOINERS=0
fails claims NO_MEND $claims REDELIVERS JOINERS=0
fails claims NO_COUNT $claims REDELIVERS JOINERS=0 UNCLAIMS=1
fails claims NO_RING_FREED $claims REDELIVERS JOINERS=0 UNCLAIMS=1 LEAVES=0 KILLS=0
fails claims NO_RING_JOIN $claims
fails claims NO_RING_TAKE $claims REDELIVERS JOINERS=0
holds claims - $claims UNCLAIMS=1 JOINERS=0 END=0
deep holds claims - $claims TAKERS=1 ITEMS=1 JOINERS=2 KILLS=2
fails claims NO_COMPARE_FREE $claims UNCLAIMS=1 JOINERS=0 END=0
fails claims NO_COMPARE_GONG $claims REDELIVERS
holds users - $users
holds users - $users KILLS=2
holds users - $users BURIERS=1
holds users - $child ACTS=1
holds users - $child COARSE KILLS=0
holds users - $needed ACTS=1
holds users - $needed CELLS=3 NEEDED=2 KILLS=0 TWINS COARSE
holds users - $forks
ends users - $users
fails users NO_SUM $users
fails users NO_COUNT_HERE $users
fails users NO_RING_LEAVE $users
fails users NO_LIVES $users
loops users NO_DEAD_ONES $users
loops users NO_SETTLE $users
fails users MARK_FIRST $users MEMBERS=4 HOLD=3 COME=12 TICKETS=0 NEEDED=1 ACTS=1
fails users TAKE_BACK $child TICKETS=1 COARSE
fails users NO_HAS_ANOTHER $child COARSE
fails users NO_ANNOUNCE $needed ACTS=1
fails users COUNT_TWICE $needed CELLS=3 NEEDED=2 KILLS=0 TWINS COARSE
fails users NO_LEAVE_OTHERS $needed KILLS=0 TWINS
fails users ONLY_IF_GONE $forks
fails users COUNT_LEFT $forks
fails users RECYCLE_PARENTS $forks MEMBERS=4 FORKS=14 COME=8 ACTS=1
holds pipe - $pipe KILLS=3
holds pipe - $pipe STAYS=1 KILLS=2
ends pipe - $pipe KILLS=2
holds pipe - $pipe TICKET=1 KILLS=3
holds pipe - $pipe TICKET=1 STAYS=1 KILLS=2
ends pipe - $pipe TICKET=1 KILLS=2
fails pipe NO_LOCK $pipe KILLS=0
fails pipe NO_BURIAL $pipe
fails pipe BURIED_LAST $pipe
fails pipe NO_LOOK $pipe
fails pipe NO_KEEP $pipe TICKET=1
fails pipe LEAVE_OVER $pipe TICKET=1
END
}

# search EXPECTED MODEL MUTANT SIZE...: leaves the verifier's report in ./log
search() {
    local expected=$1 model=$2 mutant=$3 compile="gcc -O0" # which takes longer than most searches
    local search=-DSAFETY cycles=
    local -A size=()
    shift 3
    case $expected in
    ends | loops) search=-DNP cycles=-l ;; # runs without an end: no step counts as progress
    fails) compile="clang -O0" ;;
    esac
    [ -z "$deep" ] || compile="gcc -O2"
    [ "$mutant" = - ] || size[$mutant]=
    for word; do # the last value counts
        size[${word%%=*}]=${word#"${word%%=*}"}
    done
    local flags=()
    for name in "${!size[@]}"; do
        flags+=("-D$name${size[$name]}")
    done
    spin "${flags[@]}" -a "$here/$model.pml" >log 2>&1 &&
        $compile -w $search -DNOREDUCE -DMEMLIM=2000 -o pan pan.c >>log 2>&1 &&
        ./pan $cycles -n -m20000 -w22 >>log 2>&1
}

field() {
    sed -n "s/^ *\(.*[^ ]\) *$/\1/; $1" log | head -n 1
}

# judge EXPECTED MODEL MUTANT SIZE...: what search() found, in a folder of its own
judge() {
    local expected=$1 model=$2 mutant=$3 verdict=ok
    mkdir "$work/$BASHPID" && cd "$work/$BASHPID" || exit 1
    search "$@"
    shift 3
    local errors states depth seconds
    errors=$(field 's/.*errors: \([0-9]*\)$/\1/p')
    states=$(field 's/ states, stored.*//p')
    depth=$(field 's/.*depth reached \([0-9]*\),.*/\1/p')
    seconds=$(field 's/^pan: elapsed time \([0-9.]*\) seconds.*/\1/p')
    if [ "$expected" = holds ] || [ "$expected" = ends ]; then
        [ "$errors" = 0 ] &&
            ! grep -qE 'not completed|too small|out of memory|truncated' log || verdict="not ok"
        echo "$verdict - $model $expected: ${states:-no} states, depth ${depth:-?}, ${seconds:-?} s ($*)"
    else
        # An assertion of the model's, or processes that wait for each other.
        grep -qE 'assertion violated|invalid end state|non-progress cycle' log && [ "${errors:-0}" -gt 0 ] ||
            verdict="not ok"
        echo "$verdict - $model with $mutant $expected: depth ${depth:-?}, ${seconds:-?} s"
    fi
    if [ "$verdict" != ok ]; then
        touch "$work/failed"
        cat log >&2
    fi
    rm -rf "${work:?}/$BASHPID"
}

jobs=$(nproc)
deep=
[ "${1-}" != --deep ] || { deep=1 && shift; }
while read -r line; do
    if [[ $line == deep* ]]; then
        [ -n "$deep$*" ] || continue
        line=${line#deep }
    fi
    if [ $# != 0 ]; then
        wanted=
        for word; do
            [[ " $line " != *" $word "* ]] || wanted=1
        done
        [ -n "$wanted" ] || continue
    fi
    [ "$(jobs -rp | wc -l)" -lt "$jobs" ] || wait -n
    # shellcheck disable=SC2086 # a list of words
    judge $line </dev/null &
done < <(lines)
wait
[ ! -e "$work/failed" ]
