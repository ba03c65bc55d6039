#!/bin/sh
# All that the headers declare has a man page, which says what the comment does, and for a macro what it
# stands for.
set -eu

man=$1
include=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

python3 "$man" "$dir" 0 "$include"/covey/*.h

fail() {
    echo "$*"
    exit 1
}

# has PAGE LINE...
has() {
    page=$dir/$1
    shift
    for line in "$@"; do
        grep -qxF -- "$line" "$page" || { cat "$page"; fail "$page lacks: $line"; }
    done
}

# But those of covey's own macros, which end with _, and of guards.
functions=$(cat "$include"/covey/*.h | tr "\n" " " |
    grep -oE "COVEY_API [^;(]*covey_[a-z_]+\(" | grep -oE "covey_[a-z_]+\($" | tr -d "(")
macros=$(cat "$include"/covey/*.h | sed -nE 's/^#define (\w+).+/\1/p' | grep -vE '_$|^COVEY_API$')
constants=$(cat "$include"/covey/*.h | sed -nE 's/^    (COVEY_\w+)( =.*|,.*)/\1/p')
for name in $functions $macros $constants; do
    [ -s "$dir/man3/$name.3" ] || fail "$name has no page"
done
for name in $functions $macros; do
    case $name in *[A-Z]*) has man7/covey.7 ".BR $name (3)" ;; esac
done
! grep -rl 'A macro' "$dir" || fail "it does not say what the macro is"

! grep -rhE '(^|[^[:alnum:]*])[*][[:alpha:]]+[*]([^[:alnum:]*]|$)' "$dir" || fail "it is to be emphasized"

# An alias leads to a page that is there, and all that is named is.
for page in $(sed -nE 's/^\.so //p' "$dir"/man3/*); do
    [ -f "$dir/$page" ] || fail "there is no $page"
done
for page in $(sed -nE 's,^\.BR (covey_\w+|COVEY_\w+) \(([37])\).*,man\2/\1.\2,p' "$dir"/man*/*); do
    [ -f "$dir/$page" ] || fail "there is no $page"
done

has man3/covey_queue_put_value.3 \
    'covey_queue_put_value \- put a variable' \
    'covey_queue_put_value(queue, value, timeout_s)' \
    'Put a variable: of an array all of it, of a pointer only that.' \
    '    covey_queue_put(queue, &value, sizeof(value), timeout_s)' \
    '.SH "RETURN VALUE"' \
    '.BR covey_queue_put (3).' \
    '.BR covey_queue_put (3),' \
    '.BR covey_queue (7)'
has man3/covey_pipe_receive_value.3 \
    'covey_pipe_receive_value(pipe, &value, timeout_s)' \
    '    covey_pipe_receive_exactly(pipe, &value, sizeof value, timeout_s)' \
    '.BR covey_pipe_receive_exactly (3).'
has man3/covey_array_of.3 '.BR covey_array_new_with (3).' 'C++ does not have it.'
has man3/COVEY_WAITED.3 'struct covey_waited {' '.BR covey_wait (3),'
has man3/COVEY_ARGUMENT.3 '    .argument = &value, .argument_size = sizeof(__typeof__(value))'
has man3/COVEY_FOREVER.3 'COVEY_FOREVER \- no time limit, wherever a timeout in seconds is asked for'
has man3/COVEY_KEY_MIN.3 'COVEY_KEY_MIN \- bytes that a key must have' '    16'
has man3/COVEY_ETOOBIG.3 '.so man7/covey_error.7'
has man7/covey_connection.7 'encrypted, and cannot be changed, repeated, left out or cut off unnoticed. \fIWhoever has the key is' \
    'trusted\fP: give it to nobody else, and let it be 32 random bytes, for a pass phrase can be guessed by'
has man7/covey_queue.7 '.BR covey_queue_put_value (3)' 'put a variable'
