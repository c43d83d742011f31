// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* watch.bpf.c for kernels with bpf_send_signal_task (Linux >= 6.13); the daemon loads the one or the other. */
#define WATCH_SIGNALS_NEXT 1
#include "watch.bpf.c"
