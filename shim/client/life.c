/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the process as the wrappers tell it: fork, exec, credentials, and stepping aside.
 */
#include "client/client.h"
#include "core/gate.h"
#include "core/place.h"
#include "core/sched.h"
#include "core/uring.h"
#include "core/world.h"

/*
 * fork.  The parent does nothing: a lock that we held across the fork would be held while glibc takes malloc's, and malloc's
 * owner may wait for ours.  So the child finds the scheduler in any state, and starts from an empty one.
 */
void gate_fork_child(void) {
  world_fork_child();
  client_fork_child();
}

void gate_exec_prepare(void) {
  struct m *m = m_self;
  if (!m || m->locks) return;
  m_entersyscall(m);
  sched_lock();
  if (m->p && SLOT_LOAD(m->slot->state) == M_SYSCALL) {
    uint64_t now = sched_hooks.now();
    SLOT_STORE(m->slot->taken, 1); /* if exec fails, gate_exec_failed asks for a P again */
    sched_p_free(sched_p_take(m, now), now, false);
  }
  sched_unlock();
}

void gate_exec_failed(void) { gate_exit(); }

void gate_step_aside(const char *why) {
  (void)why; /* for a debugger's breakpoint */
  uring_off();
  place_stop();
  client_step_aside();
}

void gate_hidden(void) { client_hidden(); }

/*
 * After the program changed its credentials: the service threads still have the old ones, and the pool is one of the
 * old uid.  Rather than have them make the same call, they are ended and started anew from a
 * thread that has the new ones; the connection is new, so the daemon sees the new ones too.  The one that does
 * the Gs' disk I/O is retired.
 */
void gate_mirror_creds(long nr, long a0, long a1, long a2) {
  (void)nr, (void)a0, (void)a1, (void)a2;
  if (client_creds_kept()) return;
  uring_off();
  client_reattach();
}
