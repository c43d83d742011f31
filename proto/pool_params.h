/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PROTO_POOL_PARAMS_H
#define RATION_PROTO_POOL_PARAMS_H
/*
 * From CPUs to the owner block of a pool page.  One function for both owners
 * (the daemon, and a process in standalone mode), so that a process behaves the
 * same on every rung of the ladder.  Pure: no system call, no global.
 *
 * All CPU amounts are in millionths of a CPU, all times in microseconds.
 */
#include <stdint.h>
#include "pool_page.h"

/*
 * Kept back from the quota, in millionths of it: the kernel also charges what no process sees (interrupts, exits, forks), and hands the quota
 * to CPUs in slices, of which a part is out of reach at the period's end.  That part is as large for a small quota, and there once for
 * each CPU in use (docs/architecture.md).
 */
#define POOL_MARGIN_DEFAULT 15000u
#define POOL_MARGIN_MIN_US 1000u /* of each period, for each slot; never more than an eighth of the quota */
#define POOL_MARGIN_MAX 500000u
#define POOL_MARGIN_AUTO UINT32_MAX /* the default, and less of it where the kernel saves for us: pool_shrink */
/*
 * Where the quota has a burst (cpu.max.burst) the kernel keeps what a period leaves over, up to that, and a period that uses a little more takes it from there.  So nothing need be kept back
 * for the difference between periods, but a tenth, lest the average be above the quota.  As much burst as this for each CPU of the domain does it; less, in proportion.
 */
#define POOL_BURST_US 4000u
#define POOL_BURST_GIVEN_US 5000u /* what `ration run --cpus` gives its cgroups */
#define POOL_BURST_LEAVES 10u     /* percent of the margin */
/* The bucket's bounds: parts of the quota of one period, in millionths, and a floor. */
#define POOL_CREDIT_PPM 200000u
#define POOL_DEBT_PPM 100000u
#define POOL_BUCKET_MIN_US 1000u
#define POOL_PERIOD_DEFAULT_US 100000u

struct pool_params_in {
  uint64_t cpu_micro;    /* CPUs of this pool */
  uint64_t domain_micro; /* CPUs of its whole domain, for the CPU count that programs see; 0: the same */
  uint64_t period_us;    /* of the quota; 0: none is known */
  uint64_t burst_us;     /* of the quota */
  uint32_t cpus_allowed; /* cpuset and affinity; 0 counts as 1 */
  uint32_t margin_ppm;   /* or POOL_MARGIN_AUTO; 0 is allowed */
};

/* The fields of the owner block that they lead to. */
struct pool_params {
  uint32_t flags; /* POOL_F_GATED or 0 */
  uint32_t nslots;
  uint32_t nexpress;
  uint32_t ncpus;
  uint32_t rate; /* 0: no limit */
  uint32_t credit_us;
  uint32_t debt_us;
};

static inline uint32_t pool_ceil_cpus(uint64_t micro, uint32_t most) {
  uint64_t n = micro / POOL_RATE_ONE + (micro % POOL_RATE_ONE != 0);
  if (n == 0) n = 1;
  return n > most ? most : (uint32_t)n;
}

static inline uint32_t pool_bucket_us(uint64_t quota_us, uint32_t ppm) {
  uint64_t us = (uint64_t)((unsigned __int128)quota_us * ppm / 1000000u);
  if (us < POOL_BUCKET_MIN_US) return POOL_BUCKET_MIN_US;
  return us > 1000000u ? 1000000u : (uint32_t)us;
}

/* A margin, as far as the burst makes it superfluous on so many CPUs. */
static inline uint64_t pool_shrink(uint64_t margin, uint64_t burst_us, uint32_t ncpus) {
  uint64_t enough = (uint64_t)POOL_BURST_US * ncpus, has = burst_us < enough ? burst_us : enough;
  return margin - (uint64_t)((unsigned __int128)margin * has * (100u - POOL_BURST_LEAVES) / (enough * 100u));
}

static inline uint64_t pool_margin(const struct pool_params_in *in, uint64_t micro, uint64_t period, const struct pool_params *p) {
  bool automatic = in->margin_ppm == POOL_MARGIN_AUTO;
  uint32_t ppm = automatic ? POOL_MARGIN_DEFAULT : in->margin_ppm < POOL_MARGIN_MAX ? in->margin_ppm : POOL_MARGIN_MAX;
  if (ppm == 0) return 0;
  uint64_t back = (uint64_t)((unsigned __int128)micro * ppm / 1000000u);
  uint64_t least = (uint64_t)POOL_MARGIN_MIN_US * p->nslots * POOL_RATE_ONE / period;
  if (least > micro / 8) least = micro / 8;
  least = pool_shrink(least, in->burst_us, p->ncpus);
  if (automatic) back = pool_shrink(back, in->burst_us, p->ncpus);
  return back > least ? back : least;
}

static inline struct pool_params page_params(struct pool_params_in in) {
  uint32_t allowed = in.cpus_allowed ? in.cpus_allowed : 1;
  uint32_t most = allowed < POOL_SLOTS_MAX ? allowed : POOL_SLOTS_MAX;
  uint64_t all = (uint64_t)allowed * POOL_RATE_ONE;
  uint64_t micro = in.cpu_micro < all ? in.cpu_micro : all;
  uint64_t domain = in.domain_micro ? in.domain_micro : in.cpu_micro;
  uint64_t period = in.period_us ? in.period_us : POOL_PERIOD_DEFAULT_US;

  struct pool_params p = {
      .nslots = pool_ceil_cpus(micro, most),
      .ncpus = pool_ceil_cpus(domain, allowed),
  };
  uint64_t quota = (uint64_t)((unsigned __int128)micro * period / POOL_RATE_ONE);
  p.credit_us = pool_bucket_us(quota, POOL_CREDIT_PPM);
  p.debt_us = pool_bucket_us(quota, POOL_DEBT_PPM);
  if (micro >= all) return p; /* as many CPUs as it may run on: nothing to ration */

  p.flags = POOL_F_GATED;
  uint64_t rate = micro - pool_margin(&in, micro, period, &p);
  p.rate = rate > UINT32_MAX ? UINT32_MAX : rate ? (uint32_t)rate : 1;
  uint32_t spare = most - p.nslots;
  p.nexpress = spare < p.nslots ? spare : p.nslots;
  return p;
}

#endif
