#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# One CPU count, whichever way a program asks for it (counts_probe.c), with threads off and locked; that
# the count follows a quota while the program runs; and that it is the real one without an opinion.
# timeout: 240
set -u
lib=$BUILD/libration.so
probe=$BUILD/tests/integration/counts_probe
n=0
report() { # report STATUS NAME
  n=$((n + 1))
  if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}

cpus=$(nproc)
[ "$cpus" -ge 2 ] || { echo "needs 2 CPUs"; exit 77; }
[ -e "$lib" ] && [ -x "$probe" ] || { echo "not ok 1 - not built"; exit 1; }

under() { env RATION_STANDALONE=1 LD_PRELOAD="$lib" "$@"; }

# With a count of 1.  The lines of the probe are TAP; the mode goes before the name.
for mode in off locked; do
  out=$(under RATION_THREADS=$mode RATION_MAXPROCS=1 "$probe" check 1)
  status=$?
  printf '%s\n' "$out" | sed "s/ - / - ${mode}_/"
  report $((status != 0 || $(printf '%s\n' "$out" | grep -c '^ok ') != 8)) "${mode}_probe_ran_to_its_end"
done

# The probe can fail: without the shim it must see another count.
"$probe" check 1 >/dev/null 2>&1
report $(($? != 1)) probe_sees_the_difference

# A file that one program opened, read by another.
got=$(under RATION_MAXPROCS=1 bash -c 'exec env -u LD_PRELOAD grep -c ^processor </proc/cpuinfo')
report $((got != 1)) descriptor_lives_through_exec

# Under no quota nothing is replaced.
got=$(under python3 -c 'import os
print(*(os.readlink("/proc/self/fd/%d" % os.open(p, os.O_RDONLY)) for p in ("/proc/cpuinfo", "/proc/stat", "/sys/devices/system/cpu/online")))')
[ "$got" = "/proc/cpuinfo /proc/stat /sys/devices/system/cpu/online" ]
report $? all_cpus_are_the_real_files

# taskset is part of what the program starts with.
got=$(under taskset -c 1 bash -c 'nproc; cat /sys/devices/system/cpu/online; grep ^processor /proc/cpuinfo; grep -c ^cpu[0-9] /proc/stat' | tr -d '\t' | xargs)
[ "$got" = "1 1 processor: 1 1" ]
report $? taskset_is_counted

# Who uses the kernel's CPU numbers gets arrays large enough for them.
possible=$(cat /sys/devices/system/cpu/possible)
got=$(under RATION_MAXPROCS=1 "$BUILD/tests/integration/counts_rseq")
[ "$got" = "1 $(getconf _NPROCESSORS_CONF) 1 $possible" ]
report $? rseq_user_gets_real_array_sizes

# ---- a quota that changes -----------------------------------------------------------------------------

cg=
cleanup() {
  [ -n "$cg" ] || return
  for _ in 1 2 3 4 5 6 7 8 9 10; do rmdir "$cg" 2>/dev/null && break; sleep 0.1; done
}
trap cleanup EXIT
trap 'exit 143' TERM INT

quota() { # quota CPUS
  if [ -e "$cg/cpu.max" ]; then echo "$(($1 * 100000)) 100000" >"$cg/cpu.max"; else echo $(($1 * 100000)) >"$cg/cpu.cfs_quota_us"; fi
}

if [ "$(id -u)" -ne 0 ]; then
  echo "ok $((n + 1)) - quota_change_is_seen # SKIP needs root"
  exit 0
fi
for root in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
  dir=$root/rationtest-counts-$$
  mkdir "$dir" 2>/dev/null || continue
  cg=$dir
  { [ -e "$cg/cpu.max" ] || [ -e "$cg/cpu.cfs_quota_us" ]; } && break
  rmdir "$cg"
  cg=
done
if [ -z "$cg" ]; then
  echo "ok $((n + 1)) - quota_change_is_seen # SKIP no cpu controller to make a group in"
  exit 0
fi

follow() { # follow MODE FROM TO
  local ready status
  quota "$2"
  coproc under RATION_THREADS="$1" bash -c 'echo $$ >"$1/cgroup.procs"; exec "$2" follow "$3" "$4"' _ "$cg" "$probe" "$2" "$3"
  local pid=$COPROC_PID
  read -r -u "${COPROC[0]}" ready
  [ "$ready" = ready ] && quota "$3"
  wait "$pid"
  status=$?
  [ "$ready" = ready ] || return 1
  return $status
}
for mode in off locked; do
  follow $mode 1 2
  report $? "${mode}_raised_quota_is_seen"
  follow $mode 2 1
  report $? "${mode}_lowered_quota_is_seen"
done
