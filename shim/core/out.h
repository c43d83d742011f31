/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_OUT_H
#define RATION_CORE_OUT_H
/*
 * Text for people, written where stdio can't be used: in signal handlers, in service threads without a TCB, with a broken heap.
 */
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "core/sys.h"

struct out {
  int fd; /* -1: nowhere */
  bool bad;
  uint32_t len;
  uint64_t until; /* of a descriptor that does not block: when to give up; 0: 2 s without progress */
  char text[2048];
};

/* Until there is room.  False: there was none in time. */
static inline bool out_wait(const struct out *o) {
  uint64_t now = sys_now(), most = 2000000000u;
  if (o->until) most = o->until > now ? o->until - now : 0;
  struct timespec ts = {(time_t)(most / 1000000000u), (long)(most % 1000000000u)};
  struct pollfd p = {.fd = o->fd, .events = POLLOUT};
  return most && raw_syscall5(SYS_ppoll, (long)&p, 1, (long)&ts, 0, 8) > 0;
}

static inline void out_flush(struct out *o) {
  const char *at = o->text;
  while (o->len && !o->bad && o->fd >= 0) {
    long w = raw_syscall3(SYS_write, o->fd, (long)at, o->len);
    if (w == -EINTR || (w == -EAGAIN && out_wait(o))) continue;
    if (w <= 0) {
      o->bad = true;
      break;
    }
    at += w;
    o->len -= (uint32_t)w;
  }
  o->len = 0;
}

static inline void out_bytes(struct out *o, const char *s, size_t n) {
  while (n) {
    if (o->len == sizeof o->text) out_flush(o);
    size_t fits = sizeof o->text - o->len < n ? sizeof o->text - o->len : n;
    memcpy(o->text + o->len, s, fits);
    o->len += (uint32_t)fits;
    s += fits;
    n -= fits;
  }
}

static inline void out_str(struct out *o, const char *s) { out_bytes(o, s, strlen(s)); }

static inline void out_base(struct out *o, uint64_t v, unsigned base) {
  char digits[24];
  size_t n = sizeof digits;
  do digits[--n] = "0123456789abcdef"[v % base];
  while (v /= base);
  out_bytes(o, digits + n, sizeof digits - n);
}

static inline void out_num(struct out *o, uint64_t v) { out_base(o, v, 10); }

static inline void out_hex(struct out *o, uint64_t v) {
  out_str(o, "0x");
  out_base(o, v, 16);
}

/* " name=value", as in schedtrace. */
static inline void out_pair(struct out *o, const char *name, int64_t v) {
  out_str(o, " ");
  out_str(o, name);
  out_str(o, v < 0 ? "=-" : "=");
  out_num(o, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* "3 minutes", "2.5 s", "12 ms". */
static inline void out_duration(struct out *o, uint64_t ns) {
  if (ns >= 60000000000u) {
    out_num(o, ns / 60000000000u);
    out_str(o, ns >= 120000000000u ? " minutes" : " minute");
  } else if (ns >= 1000000000u) {
    out_num(o, ns / 1000000000u);
    out_str(o, ".");
    out_num(o, ns / 100000000u % 10);
    out_str(o, " s");
  } else {
    out_num(o, ns / 1000000u);
    out_str(o, " ms");
  }
}

#endif
