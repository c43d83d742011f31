/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The constructor of libration.so: the main thread becomes an M, the process attaches.
 * Kept short: every process under ration pays for it, /bin/true too.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include "client/client.h"
#include "client/env.h"
#include "core/sched.h"
#include "core/sys.h"
#include "free/free.h"
#include "preload/thread.h"
#include "preload/real.h"
#include "preload/signal.h"

/*
 * A library's constructor, before ours, has made threads.  They may wait for pthread objects, in glibc's way: no free mode any more.  A directory has two links, and one for each
 * in it.
 */
static bool has_threads(void) {
  struct stat st;
  return raw_syscall4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/task", (long)&st, 0) == 0 && st.st_nlink > 3;
}

__attribute__((constructor)) static void ration_init(void) {
  real_init();
  client_env();
  if (client_env_now.mode != RATION_MODE_OFF) {
    preempt_init();
    signal_install_urg();
    thread_init();
  }
  if (client_env_now.mode == RATION_MODE_FREE) {
    free_mode = !has_threads() && thread_init_free();
    if (!free_mode) client_env_now.mode = RATION_MODE_LOCKED;
    if (free_mode) signal_keep_defaults();
  }
  client_attach_later();
  if (client_env_now.mode != RATION_MODE_OFF) thread_adopt_main();
}
