/* SPDX-License-Identifier: Apache-2.0 */
/* Free mode, as seen from the pthread objects and from calls: free.h. */
#include "free/free.h"
#include <pthread.h>
#include "core/light.h"
#include "core/sys.h"
#include "free/cancel.h"
#include "free/thread.h"

bool free_mode;

uint32_t free_self_id(void) {
  struct thread *t = thread_self();
  return t ? thread_id(t) : m_self ? m_self->tid : sys_gettid();
}

struct ration_context *free_cancel_context(void) {
  struct thread *t = thread_self();
  return t ? thread_cancel_context(t) : cancel_kernel_context();
}

bool free_cancel_is_async(void) {
  return atomic_load_explicit(identity_cancel_word_of(pthread_self()), memory_order_relaxed) & IDENTITY_CANCEL_ASYNC;
}

void free_testcancel(void) { pthread_testcancel(); }
