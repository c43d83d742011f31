#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# numpy with OpenBLAS: as many BLAS threads as CPUs, and the same product.
. "$(dirname "$0")/lib.sh"
need python3
for py in python3 /usr/bin/python3; do
  $py -c 'import numpy' 2>/dev/null && break
  py=
done
[ -n "$py" ] || { echo "no numpy"; exit 77; }
threads='
import ctypes, numpy
maps = open("/proc/self/maps").read().split()
libs = sorted({w for w in maps if "openblas" in w})
if not libs: raise SystemExit("numpy is not built with OpenBLAS")
l = ctypes.CDLL(libs[0])
f = next(getattr(l, n) for n in ("openblas_get_num_threads", "openblas_get_num_threads64_", "scipy_openblas_get_num_threads64_") if hasattr(l, n))
a = numpy.ones((300, 300)); b = a @ a
print(f())
'
$py -c "$threads" >/dev/null 2>&1 || { echo "numpy is not built with OpenBLAS"; exit 77; }

counts openblas "$py" -c "$threads"
# OpenBLAS counts in its constructor.  Loaded with the program, that runs before ours.
at_start='
import ctypes
print(ctypes.CDLL("libopenblas.so.0").openblas_get_num_threads())
'
if "$py" -c "$at_start" >/dev/null 2>&1; then
  # shellcheck disable=SC2016
  counts openblas_at_start sh -c 'LD_PRELOAD="${LD_PRELOAD:-} libopenblas.so.0" exec "$0" -c "$1"' "$py" "$at_start"
fi
same product "$py" -c '
import numpy
r = numpy.random.default_rng(1)
a, b = (r.integers(-1000, 1000, (400, 400)).astype(float) for _ in "ab")
print((a @ b).sum(), (a @ b)[7, 9], numpy.linalg.matrix_rank(a))
'
