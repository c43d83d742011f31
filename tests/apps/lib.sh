# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the application tests share.  Each asks a real program how many CPUs it sees: plain, under the shim without a
# limit, and under the shim with fewer; and whether its output is otherwise the same.
set -u
lib=$BUILD/libration.so
n=0
real=$(env -u LD_PRELOAD getconf _NPROCESSORS_ONLN)
[ "$real" = "$(env -u LD_PRELOAD nproc)" ] || { echo "this test itself may not run on all CPUs"; exit 77; }
[ "$real" -ge 2 ] || { echo "needs 2 CPUs"; exit 77; }
[ -e "$lib" ] || { echo "not ok 1 - libration.so is not built"; exit 1; }
fewer=1
[ "$real" -gt 2 ] && fewer="1 $((real - 1))"

need() { # need COMMAND...
  local c
  for c; do command -v "$c" >/dev/null || { echo "$c is not installed"; exit 77; }; done
}

report() { # report STATUS NAME
  n=$((n + 1))
  if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}

under() { # under MODE COUNT CMD...; COUNT "": no limit of ours
  env RATION_STANDALONE=1 RATION_THREADS="$1" ${2:+RATION_MAXPROCS="$2"} LD_PRELOAD="$lib" "${@:3}"
}

# As often as it takes to see that the answer comes from the count: the number that CMD prints is the number of CPUs.
counts() { # counts NAME CMD...
  local name=$1 got mode few
  shift
  got=$("$@")
  [ "$got" = "$real" ] || echo "  plain: saw '$got' of $real" >&2
  [ "$got" = "$real" ]
  report $? "${name}_plain_sees_all"
  for mode in off locked; do
    for few in "" $fewer; do
      got=$(under $mode "$few" "$@")
      [ "$got" = "${few:-$real}" ] || echo "  $mode, count '${few:-no limit}': saw '$got'" >&2
      [ "$got" = "${few:-$real}" ]
      report $? "${name}_${mode}_sees_${few:-all}"
    done
  done
}

# The same standard output, error output and exit status with the shim as without.
same() { # same NAME CMD...
  local name=$1 want got mode
  shift
  want=$("$@" 2>&1; echo "status $?")
  for mode in off locked; do
    got=$(under $mode 1 "$@" 2>&1; echo "status $?")
    [ "$got" = "$want" ] || diff <(printf '%s\n' "$want") <(printf '%s\n' "$got") >&2
    [ "$got" = "$want" ]
    report $? "${name}_${mode}_works_the_same"
  done
}
