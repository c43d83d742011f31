/* SPDX-License-Identifier: Apache-2.0 */
/* Recent CPU use of a G: fair.h says what it is for. */
#include "core/fair.h"

/* 2^-(k/16) in 1/65536: one halving in sixteen steps, linear between them (error below 0.1 %). */
static const uint32_t half_pow[17] = {65536, 62757, 60097, 57549, 55109, 52773, 50535, 48393, 46341,
                                      44376, 42495, 40693, 38968, 37316, 35734, 34219, 32768};

uint64_t fair_usage(const struct fair *f, uint64_t now) {
  if (now <= f->at) return f->usage;
  uint64_t dt = now - f->at;
  uint64_t halves = dt / FAIR_HALFLIFE_NS;
  if (halves >= 40) return 0;
  uint64_t part = dt % FAIR_HALFLIFE_NS;
  uint64_t step = part * 16 / FAIR_HALFLIFE_NS;
  uint64_t rest = part - step * (FAIR_HALFLIFE_NS / 16);
  uint64_t k = half_pow[step] - (uint64_t)(half_pow[step] - half_pow[step + 1]) * rest / (FAIR_HALFLIFE_NS / 16);
  return (uint64_t)((unsigned __int128)(f->usage >> halves) * k >> 16);
}

void fair_charge(struct fair *f, uint64_t now, uint64_t cpu) {
  uint64_t u = fair_usage(f, now);
  /* What was used is spread over the time it took; a long stint charged at once must not count as more than a full CPU. */
  if (cpu > FAIR_FULL_NS) cpu = FAIR_FULL_NS;
  u += cpu;
  f->usage = u > 2 * (uint64_t)FAIR_FULL_NS ? 2 * (uint64_t)FAIR_FULL_NS : u;
  if (now > f->at) f->at = now;
}

uint64_t fair_share(uint32_t rate, uint32_t nactive) {
  if (nactive == 0) nactive = 1;
  return (uint64_t)FAIR_FULL_NS * rate / 1000000u / nactive;
}
