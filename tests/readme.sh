#!/bin/sh
# The first program of the README is what it says: under 25 lines, and it runs. And whatever it names of
# covey's is there.
set -eu

readme=$1
include=$2
lib=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$readme" >"$dir/squares.c"
[ "$(wc -l <"$dir/squares.c")" -lt 25 ]
cc -std=c17 -Wall -Wextra -Wpedantic -Werror "$dir/squares.c" -I"$include" -L"$lib" -lcovey \
    -Wl,-rpath,"$lib" -o "$dir/squares"
[ "$("$dir/squares")" = "$(printf '1\n4\n9\n16\n25')" ]

for name in $(grep -oE '\b(covey|COVEY)_[A-Za-z_]+' "$readme" | sort -u); do
    grep -qrF "$name" "$include" || { echo "the README names $name"; exit 1; }
done
for file in $(grep -oE '\]\([a-z][^):]*\)' "$readme" | tr -d ']()'); do
    [ -e "$(dirname "$readme")/$file" ] || { echo "the README links to $file"; exit 1; }
done
