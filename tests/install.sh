#!/bin/sh
# Installs the build in $1 and uses it as a stranger would: through pkg-config, as C17 and as C++17,
# with the shared and with the static library; and looks at what the shared one exports.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

DESTDIR= meson install -C "$build" --no-rebuild --quiet --destdir "$root" >/dev/null
prefix=$root/usr/local
lib=$(dirname "$(find "$prefix" -name libcovey.so)")
export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"

strict="-Wall -Wextra -Wpedantic -Werror"
flags=$(pkg-config --cflags --libs covey)
static_flags=$(pkg-config --cflags --libs --static covey | sed 's/-lcovey/-l:libcovey.a/')

test -f "$prefix/include/covey.h"
test -f "$prefix/share/man/man7/covey.7"
test -f "$prefix/share/man/man3/covey_pool_map.3"
test -f "$prefix/share/man/man3/COVEY_FOREVER.3"
test -L "$lib/libcovey.so.0"
[ "$(pkg-config --modversion covey)" = 0.1.0 ]

# shellcheck disable=SC2086
cc -std=c17 $strict "$here/outside.c" $flags -o "$root/c17"
# shellcheck disable=SC2086
cc -std=c17 $strict "$here/outside.c" $static_flags -o "$root/c17-static"
# shellcheck disable=SC2086
c++ -std=c++17 $strict -x c++ "$here/outside.cc" $flags -o "$root/c++17"
for program in c17 c17-static c++17; do
    [ "$(LD_LIBRARY_PATH=$lib "$root/$program")" = "1 4 9 16 25" ]
done

# As the README says, a program has the library in it and does not look for the shared one.
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$here/../README.md" >"$root/squares.c"
(cd "$root" && sh -c "$(grep '^    cc .*libcovey\.a' "$here/../README.md")")
[ -z "$(readelf -d "$root/squares" | grep libcovey)" ]
[ "$("$root/squares")" = "$(printf '1\n4\n9\n16\n25')" ]

# Only covey's own names leave the library, and all that the headers declare do.
exported=$(nm -D --defined-only "$lib/libcovey.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
declared=$(cat "$prefix"/include/covey/*.h | tr '\n' ' ' |
    grep -oE 'COVEY_API [^;(]*covey_[a-z_]+\(' | grep -oE 'covey_[a-z_]+\($' | tr -d '(' | sort -u)
[ "$exported" = "$declared" ] || {
    echo "exported and declared differ:"
    printf '%s\n' "$exported" >"$root/exported"
    printf '%s\n' "$declared" | diff "$root/exported" - || true
    exit 1
}
