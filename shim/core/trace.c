/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RATION_DEBUG=schedtrace=1000: every so many ms one line in the manner of Go's
 * schedtrace, to stderr or to tracefile=PATH.  Written by sysmon, which has the file as its descriptor 0.
 * The only place of the shim that prints.
 */
#include "core/trace.h"
#include <fcntl.h>
#include <string.h>
#include "core/gate.h"
#include "core/sched.h"

static uint64_t period, next, start;
static char file[256];

void trace_init(const char *debug) {
  if (!debug) return;
  const char *at = strstr(debug, "schedtrace=");
  uint64_t ms = 0;
  if (at)
    for (at += sizeof "schedtrace=" - 1; *at >= '0' && *at <= '9' && ms < 1000000; at++) ms = ms * 10 + (uint64_t)(*at - '0');
  const char *path = strstr(debug, "tracefile=");
  if (path) {
    path += sizeof "tracefile=" - 1;
    size_t n = strcspn(path, ",");
    if (n < sizeof file) memcpy(file, path, n), file[n] = 0;
  }
  period = ms * 1000000u;
  start = sched_hooks.now();
  next = start + period;
}

int trace_open(void) {
  if (period == 0) return -1;
  if (file[0]) return (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  return (int)raw_syscall3(SYS_fcntl, 2, F_DUPFD_CLOEXEC, 3);
}

uint64_t trace_deadline(void) { return period ? next : UINT64_MAX; }

struct line {
  char text[512];
  size_t len;
};

static void put(struct line *l, const char *s) {
  while (*s && l->len < sizeof l->text - 1) l->text[l->len++] = *s++;
}

static void put_num(struct line *l, const char *name, int64_t v) {
  char digits[24];
  size_t n = 0;
  uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
  put(l, name);
  if (v < 0) put(l, "-");
  do digits[n++] = (char)('0' + u % 10);
  while ((u /= 10) != 0);
  while (n && l->len < sizeof l->text - 1) l->text[l->len++] = digits[--n];
}

void trace_tick(uint64_t now) {
  if (period == 0 || now < next) return;
  next = now + period;
  struct line l = {.len = 0};
  lock_take(&sched.lock);
  put_num(&l, "SCHED ", (int64_t)((now - start) / 1000000u));
  put_num(&l, "ms: gomaxprocs=", gate_ncpus());
  put_num(&l, " gated=", sched.gated);
  put_num(&l, " held=", sched.nheld);
  put_num(&l, " threads=", sched.nms);
  put_num(&l, " newcomers=", sched.express.len);
  put_num(&l, " runqueue=", sched.global.len);
  put_num(&l, " tokens_us=", sched.page && sched.gated ? lease_tokens(now) / 1000 : 0);
  put_num(&l, " paced=", sched.paced);
  put_num(&l, " charged_ms=",
          sched.page ? (int64_t)(atomic_load_explicit(&sched.page->members[sched.member].charged, memory_order_relaxed) / 1000000u) : 0);
  put_num(&l, " handoffs=", (int64_t)sched.stats.handoffs);
  put_num(&l, " retakes=", (int64_t)sched.stats.retakes);
  put_num(&l, " preempts=", (int64_t)sched.stats.preempts);
  put_num(&l, " signals=", (int64_t)sched.stats.signals);
  put_num(&l, " wakeups=", (int64_t)sched.stats.wakeups);
  put_num(&l, " pauses=", (int64_t)sched.stats.pauses);
  put_num(&l, " bpf=", sched.bpf);
  put(&l, "\n");
  lock_drop(&sched.lock);
  raw_syscall3(SYS_write, 0, (long)l.text, (long)l.len);
}
