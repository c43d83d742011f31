/* SPDX-License-Identifier: Apache-2.0 */
/* RATION_* of the environment.  Values that can't be understood count as absent: nothing is printed in somebody's process. */
#include "client/env.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "client/client.h"
#include "core/place.h"
#include "core/sched.h"
#include "core/trace.h"
#include "core/uring.h"
#include "wire.h"

struct client_env client_env_now = {.mode = RATION_MODE_LOCKED};

static void copy(char *to, size_t cap, const char *from) {
  size_t n = strlen(from);
  if (n >= cap) n = cap - 1;
  memcpy(to, from, n);
  to[n] = 0;
}

static uint32_t number(const char *s) {
  uint32_t v = 0;
  if (!s || !*s) return 0;
  for (; *s; s++) {
    if (*s < '0' || *s > '9' || v > 100000) return 0;
    v = v * 10 + (uint32_t)(*s - '0');
  }
  return v;
}

static bool is(const char *s, const char *want) { return s && strcmp(s, want) == 0; }

void client_env(void) {
  struct client_env *e = &client_env_now;
  const char *threads = getenv("RATION_THREADS"), *path = getenv("RATION_SOCKET"), *name = getenv("RATION_NAME");
  e->mode = is(threads, "off") ? RATION_MODE_OFF : is(threads, "free") ? RATION_MODE_FREE : RATION_MODE_LOCKED;
  e->standalone = is(getenv("RATION_STANDALONE"), "1");
  e->no_bpf = is(getenv("RATION_BPF"), "0");
  e->maxprocs = number(getenv("RATION_MAXPROCS"));
  if (e->maxprocs > POOL_SLOTS_MAX) e->maxprocs = POOL_SLOTS_MAX;
  e->maxthreads = number(getenv("RATION_MAXTHREADS"));
  copy(e->socket, sizeof e->socket, path && *path && strlen(path) < sizeof e->socket ? path : WIRE_SOCKET_PATH);
  copy(e->name, sizeof e->name, name && *name ? name : program_invocation_short_name);
  sched.maxprocs = e->maxprocs;
  if (is(getenv("RATION_URING"), "0")) uring_off();
  if (is(getenv("RATION_PLACE"), "0")) place_stop();
  trace_init(getenv("RATION_DEBUG"));
}

enum ration_mode gate_mode(void) { return client_env_now.mode; }
