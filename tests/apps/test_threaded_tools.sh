#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Threads inside of tools that one does not think of as threaded: git, ImageMagick, curl's resolver, make's jobs, sysbench, stress-ng.  Left out: figures and times
# that they print, and stress-ng's futex, which test_fork.sh has.
# timeout: 240
# shellcheck disable=SC2016  # what is in single quotes runs in the inner shell
. "$(dirname "$0")/lib.sh"
dir=${TMPDIR:-/tmp}
cd "$dir" || exit 1
has() { command -v "$1" >/dev/null; }

if has git; then
  export GIT_CONFIG_NOSYSTEM=1 HOME=$dir
  git init -q r && git -C r config user.email a@b.invalid && git -C r config user.name a
  for round in 1 2; do
    for i in $(seq 40); do seq "$round" $((i * 7)) 9000 >"r/f$i"; done
    git -C r add . && git -C r commit -qm "$round"
  done
  same git_gc sh -c 'rm -rf c; cp -r r c; cd c; git -c pack.threads=4 gc -q --aggressive --prune=now; echo $?
    git -c index.threads=4 fsck --full 2>&1; git count-objects -v | grep -E "in-pack|^count|packs"; git grep --threads=4 77 | sha256sum'
fi
if [ -x /usr/bin/convert ]; then
  /usr/bin/convert -size 300x200 gradient:red-blue -swirl 90 s.png
  same imagemagick_openmp sh -c 'for o in "-blur 0x3" "-resize 250%" "-rotate 33 -emboss 1" "-colorspace Lab -equalize"; do
    OMP_NUM_THREADS=4 /usr/bin/convert s.png $o rgb:- | sha256sum; done'
fi
if has curl; then
  same curl_resolver_thread sh -c 'curl -sS http://nosuch.invalid/; echo $?; curl -s http://localhost:1/; echo $?; curl -sS file:///etc/passwd | sha256sum'
fi
if has make; then
  printf 'all: a b c d e f g h\na b c d e f g h:\n\t@sleep 0.0$$(( $$$$ %% 5 )); echo x\n' >mk
  same make_jobs make -s -j4 -f mk
fi
if has sysbench; then
  events='s/^ *(total number of events|events \(avg\/stddev\)): *([0-9.]+).*/\1 \2/p'
  same sysbench_threads sh -c "sysbench threads --threads=8 --thread-locks=4 --thread-yields=50 --time=0 --events=800 run 2>&1 | sed -nE '$events'"
  same sysbench_mutex sh -c "sysbench mutex --threads=8 --mutex-num=16 --mutex-locks=20000 --mutex-loops=20 run 2>&1 | sed -nE '$events'"
fi
if has stress-ng; then
  for s in pthread mutex sem switch; do
    same "stress_$s" sh -c "stress-ng --$s 2 --timeout $([ "$s" = mutex ] && echo 2 || echo 1) --verify 2>&1 | grep -oE 'fail: .*|(un)?successful run'"
  done
fi
