/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The constructor of libration.so: the main thread becomes an M, the process attaches.
 * Kept short: every process under ration pays for it, /bin/true too.
 */
#include "client/client.h"
#include "client/env.h"
#include "core/sched.h"
#include "free/free.h"
#include "preload/thread.h"
#include "preload/real.h"
#include "preload/signal.h"

__attribute__((constructor)) static void ration_init(void) {
  real_init();
  client_env();
  if (client_env_now.mode != RATION_MODE_OFF) {
    preempt_init();
    signal_install_urg();
    thread_init();
  }
  if (client_env_now.mode == RATION_MODE_FREE) {
    free_mode = thread_init_free();
    if (!free_mode) client_env_now.mode = RATION_MODE_LOCKED;
  }
  client_attach();
  if (client_env_now.mode != RATION_MODE_OFF) thread_adopt_main();
}
