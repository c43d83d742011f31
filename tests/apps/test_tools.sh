#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# The small tools that scripts count CPUs with: nproc, getconf, lscpu, grep, ls, make, top, xz, zstd.
# shellcheck disable=SC2016  # what is in single quotes runs in the inner shell
. "$(dirname "$0")/lib.sh"
need nproc getconf lscpu make top

counts nproc nproc
counts nproc_all nproc --all
counts getconf_online getconf _NPROCESSORS_ONLN
counts getconf_configured getconf _NPROCESSORS_CONF
counts lscpu sh -c 'lscpu -p=CPU | grep -vc "^#"'
counts grep_cpuinfo grep -c ^processor /proc/cpuinfo
counts stat_lines sh -c 'grep -c "^cpu[0-9]" </proc/stat'
counts ls_sysfs bash -c 'shopt -s nullglob; d=(/sys/devices/system/cpu/cpu[0-9]*); echo ${#d[@]}'
counts top sh -c 'TERM=dumb HOME=/nonexistent top -1 -b -n1 -w 200 | grep -oE "%Cpu[0-9]+" | wc -l'
counts make_j sh -c 'printf "all:\n\t@echo \$(MAKEFLAGS)\n" | make -s -j$(nproc) -f - | grep -oE -- "-j ?[0-9]+" | tr -dc 0-9'
if command -v xz >/dev/null; then
  counts xz_threads sh -c 'LC_ALL=C xz --robot --info-memory | cut -f 6 | head -1'
  same xz sh -c 'seq 200000 | xz -T0 -c | xz -dc | sha256sum'
fi
if command -v zstd >/dev/null; then
  same zstd sh -c 'seq 200000 | zstd -q -T0 -c | zstd -dc | sha256sum'
fi
same make_parallel sh -c 'printf "all: a b c d\\na b c d:\\n\\t@echo x\\n" | make -s -j4 -f -'
