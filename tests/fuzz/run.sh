#!/bin/bash
# Fuzzes for SECONDS with one target of the build directory DIR, and says how often it has tried.
#
#   run.sh DIR TARGET SECONDS
#
# What it has found interesting stays in DIR/corpus/TARGET for the next time; an input that fails is left
# in DIR, and is repeated by: DIR/tests/fuzz/fuzz_TARGET FILE
set -u
seeds=$(cd "$(dirname "$0")" && pwd)/corpus/$2
cd "$1" || exit 1
mkdir -p "corpus/$2"
if ! "tests/fuzz/fuzz_$2" "-max_total_time=$3" -print_final_stats=1 -verbosity=1 \
    "corpus/$2" "$seeds" >"fuzz_$2.log" 2>&1; then
    tail -n 40 "fuzz_$2.log"
    exit 1
fi
sed -n "s/^stat::number_of_executed_units: */# fuzz_$2 inputs: /p" "fuzz_$2.log"
