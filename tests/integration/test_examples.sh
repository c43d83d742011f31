#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 300
#
# The examples do what they say, with one P and with two; and what a user of the C API gets: headers for C and C++, an
# installed library that pkg-config finds.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
[ -x "$build/tests/examples/echo" ] || { echo "build first: make progs"; exit 77; }
unset MAKEFLAGS MFLAGS MAKELEVEL
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
fine() { echo "ok - $1"; }
wrong() { # NAME, and what there is to say, on stdin
  echo "not ok - $1"
  sed 's/^/#   /' | head -40
  bad=1
}
# verdict NAME COMMAND...: by its exit status, says its output if it failed
verdict() {
  local name=$1
  shift
  if "$@" >"$tmp/said" 2>&1; then fine "$name"; else wrong "$name" <"$tmp/said"; fi
}

expected() {
  case $1 in
    echo) echo "8 clients, 800 of 800 messages came back" ;;
    sieve) printf '%s\n' "2 3 5 7 11 13 17 19 23 29" ;; # the first line
    pool) echo "26623 takes 307 steps" ;;
    crawler) echo "300 pages, 301 dead links, 0 failed" ;;
    pipeline) echo "1000 squares, then cancelled: all stages ended" ;;
    *) echo "say here what $1 prints" ;;
  esac
}

# example PATH NAME PS
example() {
  RATION_STANDALONE=1 RATION_MAXPROCS=$3 timeout -s QUIT -k 5 20 "$1" --check >"$tmp/out" 2>"$tmp/err"
  local status=$? first
  first=$(head -1 "$tmp/out")
  [ $status = 0 ] && [ "$first" = "$(expected "$2")" ] && [ ! -s "$tmp/err" ] && return 0
  echo "exit status $status; first line: $first"
  echo "expected: $(expected "$2")"
  cat "$tmp/err"
  return 1
}
for source in tests/examples/*.c; do
  name=$(basename "$source" .c)
  for ps in 1 2; do verdict "$name, $ps P" example "$build/tests/examples/$name" "$name" $ps; done
done

# A server that is given a port goes on until it is killed, and another process may talk to it.
serves_a_port() {
  local reply=
  for _ in 1 2 3 4 5; do
    local port=$((20000 + (RANDOM + $$) % 12000)) # below the ephemeral ones
    RATION_STANDALONE=1 "$build/tests/examples/echo" $port >"$tmp/out" 2>&1 &
    local pid=$!
    for _ in $(seq 50); do grep -q serving "$tmp/out" && break; kill -0 $pid 2>/dev/null || break; sleep 0.02; done
    if { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && kill -0 $pid 2>/dev/null; then
      echo "hello" >&3
      read -r -t 5 reply <&3
      exec 3>&-
    fi
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ "$reply" = hello ] && return 0
  done
  cat "$tmp/out"
  return 1
}
verdict "echo serves a port until it is killed" serves_a_port

# While the main G was on its way into a queue, all carriers were idle: "deadlock", in 1 of 100 starts with 4 Ps.
a_start_is_no_deadlock() {
  local i
  for i in $(seq 300); do
    RATION_STANDALONE=1 RATION_MAXPROCS=4 timeout -s QUIT -k 5 20 "$build/tests/examples/sieve" 10 >"$tmp/out" 2>&1 || {
      echo "start $i:"
      cat "$tmp/out"
      return 1
    }
  done
}
verdict "a start is no deadlock" a_start_is_no_deadlock

# --- headers ---

cat >"$tmp/use.c" <<'END'
#include <ration/ration.h>
typedef RATION_CHAN(int) int_chan;
struct pair { int a; const char *b; };
typedef RATION_CHAN(struct pair) pair_chan;
static void f(void *arg) { (void)arg; errno = 0; }
int use(int argc, char **argv) {
  int_chan c = RATION_CHAN_NEW(int_chan, 4);
  pair_chan p = RATION_CHAN_NEW(pair_chan, 0);
  struct pair x = {1, "one"};
  int v = argc;
  struct ration_case cases[3];
  (void)argv;
  cases[0] = RATION_CASE_RECV(c, &v);
  cases[1] = RATION_CASE_SEND_FROM(p, &x);
  cases[2] = ration_case_recv(c.chan, NULL);
  RATION_SEND(c, 1);
  RATION_SEND(p, x);
  RATION_CLOSE(c);
  (void)RATION_RECV(c, &v);
  return ration_go(f, NULL) + RATION_TRY_SEND(c, 2) + RATION_TRY_RECV(p, &x) + RATION_SEND_TIMEOUT(c, 3, RATION_MS) +
         RATION_RECV_TIMEOUT(c, &v, 5 * RATION_US) + ration_select(cases, 3, RATION_FOREVER);
}
END
headers() { # SOURCE COMPILER...: what is compiled after ration.h
  local h
  for h in shim/include/ration/*.h; do
    echo "#include <ration/${h##*/}>"
    echo "#include <ration/${h##*/}>"
    [ "${h##*/}" = ration.h ] && cat "$1"
  done >"$tmp/all.c"
  shift
  "$@" -fsyntax-only -Ishim/include "$tmp/all.c" || return 1
  # and each one alone: it includes what it needs
  for h in shim/include/ration/*.h; do
    echo "#include <ration/${h##*/}>" >"$tmp/one.c"
    "$@" -fsyntax-only -Ishim/include "$tmp/one.c" || return 1
  done
}
strict="-pedantic -Wall -Wextra -Werror"
# shellcheck disable=SC2086 # words
{
  verdict "headers: C99, without types, pedantic" headers /dev/null gcc -x c -std=c99 $strict
  verdict "headers: C11, pedantic" headers "$tmp/use.c" gcc -x c -std=c11 $strict
  verdict "headers: gnu17, strict" headers "$tmp/use.c" gcc -x c -std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion -Werror
  if command -v clang >/dev/null; then verdict "headers: clang" headers "$tmp/use.c" clang -x c -std=c11 -Wall -Wextra -Werror; fi
}

# A program in C++ that uses all of it.
cplusplus() { # COMPILER...
  "$@" -Wshadow -o "$tmp/cplusplus" tests/integration/cplusplus.cpp -Ishim/include -L"$build" -lration -Wl,-rpath,"$(realpath "$build")" || return 1
  RATION_STANDALONE=1 RATION_MAXPROCS=2 timeout -s QUIT -k 5 20 "$tmp/cplusplus" >"$tmp/out" 2>&1 || { cat "$tmp/out"; return 1; }
  [ "$(cat "$tmp/out")" = ok ] || { cat "$tmp/out"; return 1; }
}
for cxx in g++ clang++; do
  for std in c++11 c++17; do
    if ! command -v $cxx >/dev/null; then
      echo "ok - $cxx $std: headers and a program # SKIP no $cxx"
      continue
    fi
    # shellcheck disable=SC2086 # words
    verdict "$cxx $std: headers, pedantic" headers /dev/null $cxx -x c++ -std=$std $strict
    # shellcheck disable=SC2086 # words
    verdict "$cxx $std: a program" cplusplus $cxx -std=$std $strict
  done
done

# --- installed ---

installed() {
  local flags at=$tmp/root
  make -s --no-print-directory install BUILD="$build" DESTDIR="$at" || return 1
  cp tests/examples/pipeline.c "$tmp/mine.c" || return 1
  export PKG_CONFIG_PATH="$at/usr/local/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$at"
  flags=$(pkg-config --cflags --libs ration) || return 1
  # shellcheck disable=SC2086 # words
  gcc -std=gnu17 -Wall -Wextra -Werror -o "$tmp/mine" "$tmp/mine.c" $flags -Wl,-rpath,"$at/usr/local/lib" || { echo "flags: $flags"; return 1; }
  readelf -d "$tmp/mine" | grep -q 'NEEDED.*libration\.so' || { echo "does not need libration.so"; return 1; }
  example "$tmp/mine" pipeline 2 || return 1
  [ "$(pkg-config --modversion ration)" = "$("$build/ration" --version | grep -o '[0-9][0-9.]*' | head -1)" ] || {
    echo "version: $(pkg-config --modversion ration)"
    return 1
  }
}
if command -v pkg-config >/dev/null; then
  verdict "installed: pkg-config finds headers and library" installed
else
  echo "ok - installed: pkg-config finds headers and library # SKIP no pkg-config"
fi

uninstalled() {
  make -s --no-print-directory uninstall BUILD="$build" DESTDIR="$tmp/root" || return 1
  [ -z "$(find "$tmp/root" ! -type d)" ] || { find "$tmp/root" ! -type d; return 1; }
}
verdict "uninstalled: nothing is left" uninstalled
exit $bad
