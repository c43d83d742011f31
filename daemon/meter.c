/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What strangers use.  See meter.h.
 */
#include "meter.h"
#include <string.h>
#include "util.h"

void meter_reset(struct meter *m) { memset(m, 0, sizeof(*m)); }

static void meter_begin(struct meter *m, uint64_t now, uint64_t usage, uint64_t charged) {
  uint64_t rate = m->stranger_rate;
  meter_reset(m);
  m->started = true;
  m->usage0 = m->usage = usage;
  m->charged0 = charged;
  m->at = now;
  m->stranger_rate = rate;
}

static uint64_t meter_smooth(uint64_t old, int64_t amount, uint64_t dt) {
  int64_t rate = amount > 0 ? (int64_t)((__int128)amount * 1000000 / (__int128)dt) : 0;
  return (uint64_t)(((int64_t)old * 7 + rate) / 8);
}

static int64_t meter_least(const struct meter *m) {
  int64_t least = m->samples[0];
  uint32_t n = UTIL_MIN(m->n, METER_SAMPLES);
  for (uint32_t i = 1; i < n; i++) least = UTIL_MIN(least, m->samples[i]);
  return least;
}

int64_t meter_sample(struct meter *m, uint64_t now, uint64_t usage, uint64_t charged, uint64_t rate) {
  /* A counter that runs backwards is another cgroup of the same name. */
  if (!m->started || usage < m->usage || charged < m->charged0 || now <= m->at) {
    meter_begin(m, now, usage, charged);
    return 0;
  }
  uint64_t dt = now - m->at;
  m->samples[m->n++ % METER_SAMPLES] = (int64_t)((usage - m->usage0) - (charged - m->charged0));
  m->usage_rate = meter_smooth(m->usage_rate, (int64_t)(usage - m->usage), dt);
  m->usage = usage;
  m->at = now;
  if (m->n < METER_SAMPLES) return 0;

  int64_t least = meter_least(m);
  if (least < 0) {
    /* What members had used before the start is charged by now.  The start moves, so that never more comes back than was taken. */
    m->charged0 += (uint64_t)-least;
    m->last -= least;
    for (uint32_t i = 0; i < METER_SAMPLES; i++) m->samples[i] -= least;
    least = 0;
  }
  m->stranger_rate = meter_smooth(m->stranger_rate, least - m->last, dt);
  m->last = least;
  int64_t owed = least - m->applied;
  if (owed <= 0) { /* m->applied is never negative: this gives back at most what was taken */
    m->applied = least;
    return owed;
  }
  int64_t most = (int64_t)((unsigned __int128)dt * rate / 1000000 * METER_STRANGERS_PPM / 1000000);
  int64_t take = UTIL_MIN(owed, most);
  int64_t later = UTIL_MIN(owed - take, (int64_t)METER_BACKLOG_NS);
  m->applied = least - later;
  return take;
}
