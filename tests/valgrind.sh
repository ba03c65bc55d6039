#!/bin/sh
# Runs a program of tests under valgrind. It fails also when valgrind finds something in a process whose
# end nobody looks at. Valgrind keeps account of the whole arena, hence a small one.
set -u

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
ulimit -f 32768
export COVEY_TEST_VALGRIND=1 COVEY_TEST_DEADLINE_FACTOR=5
valgrind --quiet --run-libc-freeres=no --trace-children=yes --log-file="$logs/%p" --error-exitcode=99 \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$@"
status=$?
# Beside the logs there are valgrind's core dumps, of tests that abort.
if grep -h --exclude='*.core.*' '^==' "$logs"/* >&2; then
    exit 1
fi
exit $status
