#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# hwloc, which OpenMPI, oneTBB's binding and StarPU count with: it puts sysfs, cpuinfo and the affinity together.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
need hwloc-calc lstopo-no-graphics

counts processing_units hwloc-calc --number-of pu machine:0
counts lstopo sh -c 'lstopo-no-graphics --only pu | wc -l'
counts lstopo_allowed_or_not sh -c 'lstopo-no-graphics --disallowed --only pu | wc -l'
