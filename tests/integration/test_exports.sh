#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# libration.so goes into every process, so what it brings along is checked: it needs libc only, it exports
# nothing but ration_* and replacements of what libc itself exports, and none of those has a version (a preloaded
# read without one stands in for read@GLIBC_2.2.5; one with a version of ours would never be taken).
set -u
lib=$BUILD/libration.so
n=0
report() { # report STATUS NAME [DETAIL]
  n=$((n + 1))
  if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; [ -n "${3:-}" ] && printf '%s\n' "$3" >&2; fi
}

[ -e "$lib" ] || { echo "not ok 1 - libration.so is not built"; exit 1; }
libc=$(ldd "$lib" | sed -n 's/.*libc\.so\.6 => \([^ ]*\).*/\1/p')
[ -n "$libc" ] || { echo "no libc.so.6 in ldd $lib"; exit 1; }

needed=$(LC_ALL=C readelf -d "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -e '^libc\.so\.6$' -e '^ld-linux')
report "$([ -z "$needed" ]; echo $?)" needs_only_libc "$needed"

ours=$(nm -D --defined-only "$lib" | awk '{print $3}')
versioned=$(printf '%s\n' "$ours" | grep '@')
report "$([ -z "$versioned" ]; echo $?)" exports_have_no_version "$versioned"

libcs=$(nm -D --defined-only "$libc" | awk '{print $3}' | sed 's/@.*//' | sort -u)
strange=$(comm -23 <(printf '%s\n' "$ours" | grep -v '^ration_' | sort -u) <(printf '%s\n' "$libcs"))
report "$([ -z "$strange" ]; echo $?)" exports_only_what_libc_exports "$strange"

report "$([ "$(printf '%s\n' "$ours" | grep -c -x -e read -e pthread_create -e sched_getaffinity)" -eq 3 ]; echo $?)" wrappers_are_exported "$ours"

# Text relocations and an executable stack would be refused by hardened programs; lazy binding could fail in the middle of a handler.
report "$(LC_ALL=C readelf -d "$lib" | grep -q TEXTREL; echo $((1 - $?)))" has_no_text_relocations
report "$(LC_ALL=C readelf -lW "$lib" | awk '/GNU_STACK/ {found = index($0, "RWE")} END {exit found != 0}'; echo $?)" stack_is_not_executable
report "$(LC_ALL=C readelf -d "$lib" | grep -qE 'BIND_NOW|NOW'; echo $?)" binds_now
