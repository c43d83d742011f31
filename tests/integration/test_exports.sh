#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# libration.so goes into every process, so what it brings along is checked: it needs libc only, it exports
# nothing but ration_* and replacements of what libc itself exports.  ration_* have a version, so that a program linked with the library
# asks for it; the replacements have none, and so stand in for read@GLIBC_2.2.5 and for whatever version a program was built with.
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

ours=$(nm -D --defined-only "$lib" | awk '$2 != "A" {print $3}')
versioned=$(printf '%s\n' "$ours" | grep -v '^ration_' | grep '@')
report "$([ -z "$versioned" ]; echo $?)" replacements_have_no_version "$versioned"
unversioned=$(printf '%s\n' "$ours" | grep '^ration_' | grep -v '@@RATION_0\.1$')
report "$([ -z "$unversioned" ] && printf '%s\n' "$ours" | grep -q -x 'ration_go@@RATION_0\.1'; echo $?)" api_has_its_version "$unversioned"

libcs=$(nm -D --defined-only "$libc" | awk '{print $3}' | sed 's/@.*//' | sort -u)
strange=$(comm -23 <(printf '%s\n' "$ours" | grep -v '^ration_' | sort -u) <(printf '%s\n' "$libcs"))
report "$([ -z "$strange" ]; echo $?)" exports_only_what_libc_exports "$strange"

report "$([ "$(printf '%s\n' "$ours" | grep -c -x -e read -e pthread_create -e sched_getaffinity)" -eq 3 ]; echo $?)" wrappers_are_exported "$ours"

# Text relocations and an executable stack would be refused by hardened programs; lazy binding could fail in the middle of a handler.
report "$(LC_ALL=C readelf -d "$lib" | grep -q TEXTREL; echo $((1 - $?)))" has_no_text_relocations
report "$(LC_ALL=C readelf -lW "$lib" | awk '/GNU_STACK/ {found = index($0, "RWE")} END {exit found != 0}'; echo $?)" stack_is_not_executable
report "$(LC_ALL=C readelf -d "$lib" | grep -qE 'BIND_NOW|NOW'; echo $?)" binds_now

# What the dynamic linker makes of it.
command -v gcc >/dev/null || { echo "ok - bindings # SKIP no gcc"; exit 0; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/bound.c" <<'END'
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#ifdef __x86_64__
int old_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
__asm__(".symver old_create, pthread_create@GLIBC_2.2.5"); /* the one of before glibc 2.34 */
#else
#define old_create pthread_create
#endif
static void *nothing(void *arg) { return arg; }
int main(void) {
  pthread_t a, b;
  cpu_set_t set;
  return pthread_create(&a, NULL, nothing, NULL) || old_create(&b, NULL, nothing, NULL) || pthread_join(a, NULL) ||
         pthread_join(b, NULL) || sched_getaffinity(0, sizeof set, &set) || read(0, &a, 0) != 0;
}
END
# bindings PROGRAM [ARGUMENT]: "symbol version file" of each reference of the program itself
bindings() {
  LD_DEBUG=bindings RATION_STANDALONE=1 timeout 20 "$@" 2>&1 </dev/null |
    sed -n "s|.*binding file $1 \[0\] to \([^ ]*\) .*symbol .\([^']*\)'\( \[\(.*\)\]\)\{0,1\}|\2 \4 \1|p"
}
# replaced FILE...: each of the wrappers that it uses is ours, whatever the version asked for
replaced() {
  local got want
  got=$(LD_PRELOAD=$lib bindings "$tmp/bound")
  for want in read pthread_create sched_getaffinity; do
    printf '%s\n' "$got" | grep -q "^$want GLIBC_.* $lib\$" || { echo "$got"; return 1; }
  done
  [ "$(uname -m)" != x86_64 ] || [ "$(printf '%s\n' "$got" | grep -c "^pthread_create GLIBC_.* $lib\$")" -eq 2 ] || { echo "$got"; return 1; }
}
linked() {
  local got
  LC_ALL=C readelf -V "$BUILD/tests/examples/sieve" | grep -A 1 'File: libration\.so' | grep -q 'Name: RATION_0\.1 ' || { echo "no need"; return 1; }
  got=$(bindings "$BUILD/tests/examples/sieve" 10)
  printf '%s\n' "$got" | grep -q "^ration_go RATION_0\.1 .*/libration\.so\$" || { echo "$got"; return 1; }
}
gcc -D_GNU_SOURCE -o "$tmp/bound" "$tmp/bound.c" -pthread || exit 1
said=$(env LD_PRELOAD="$lib" RATION_STANDALONE=1 "$tmp/bound" </dev/null 2>&1); report $? preloaded_program_runs "$said"
said=$(replaced); report $? replaces_every_version "$said"
said=$(linked); report $? linked_program_needs_the_version "$said"
