# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the application tests share.  Each asks a real program how many CPUs it sees: plain, under the shim without a
# limit, and under the shim with fewer; and whether its output is otherwise the same.  In each of the modes, which APPS_MODES names.
set -u
lib=$BUILD/libration.so
n=0
read -ra modes <<<"${APPS_MODES:-off locked free}"
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
  for mode in "${modes[@]}"; do
    for few in "" $fewer; do
      got=$(under "$mode" "$few" "$@")
      [ "$got" = "${few:-$real}" ] || echo "  $mode, count '${few:-no limit}': saw '$got'" >&2
      [ "$got" = "${few:-$real}" ]
      report $? "${name}_${mode}_sees_${few:-all}"
    done
  done
}

# same_at NAME COUNT MODE...: the command is in the array cmd, what it is to print in want.
same_at() {
  local name=$1 few=$2 got mode
  for mode in "${@:3}"; do
    got=$(under "$mode" "$few" timeout -s KILL 60 "${cmd[@]}" 2>&1; echo "status $?")
    [ "$got" = "$want" ] || diff <(printf '%s\n' "$want") <(printf '%s\n' "$got") | head -n 40 >&2
    [ "$got" = "$want" ]
    report $? "${name}_${mode}${few:+_$few}_works_the_same"
  done
}

# The same standard output, error output and exit status with the shim as without: on one P, in free mode on two as well.
same() { # same NAME CMD...
  local name=$1 cmd=("${@:2}") want
  want=$("${cmd[@]}" 2>&1; echo "status $?")
  same_at "$name" 1 "${modes[@]}"
  case " ${modes[*]} " in *" free "*) same_at "$name" 2 free ;; esac
}
