# SPDX-License-Identifier: Apache-2.0
$(BUILD)/tests/bench/omp: EXTRA = -fopenmp
