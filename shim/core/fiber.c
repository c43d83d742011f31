/* SPDX-License-Identifier: Apache-2.0 */
/* Telling sanitizers of switches, and valgrind of stacks: fiber.h. */
#include "core/fiber.h"
#include <pthread.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_MAKE_MEM_UNDEFINED(at, bytes) ((void)(at), (void)(bytes))
#define VALGRIND_STACK_REGISTER(start, end) ((void)(start), (void)(end))
#endif

#define WEAK __attribute__((weak))
extern void *__tsan_get_current_fiber(void) WEAK;
extern void *__tsan_create_fiber(unsigned flags) WEAK;
extern void __tsan_switch_to_fiber(void *fiber, unsigned flags) WEAK;
extern void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t bytes) WEAK;
extern void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *bytes) WEAK;

bool fiber_used;

void fiber_init(void) { fiber_used = __tsan_switch_to_fiber || __sanitizer_start_switch_fiber; }

void fiber_of_thread(struct fiber *f) {
  pthread_attr_t attr;
  void *bottom;
  if (!fiber_used) return;
  if (__tsan_get_current_fiber) f->tsan = __tsan_get_current_fiber();
  if (pthread_getattr_np(pthread_self(), &attr) != 0) return;
  if (pthread_attr_getstack(&attr, &bottom, &f->bytes) == 0) f->bottom = bottom;
  pthread_attr_destroy(&attr);
}

void fiber_new(struct fiber *f, const void *bottom, size_t bytes) {
  if (!fiber_used) return;
  f->bottom = bottom;
  f->bytes = bytes;
  f->asan = NULL;
  if (__tsan_create_fiber && !f->tsan) f->tsan = __tsan_create_fiber(0); /* kept for the stack's next G */
}

#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread")))
#endif
void fiber_switch(struct fiber *from, struct fiber *to, bool from_ends) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(from_ends ? NULL : &from->asan, to->bottom, to->bytes);
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to->tsan, 0);
}

void fiber_arrived(struct fiber *self) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(self ? self->asan : NULL, NULL, NULL);
}

bool valgrind_here(void) { return RUNNING_ON_VALGRIND != 0; }
void valgrind_resumes(const void *bottom, const void *sp) {
  (void)VALGRIND_MAKE_MEM_UNDEFINED(bottom, (size_t)((const char *)sp - (const char *)bottom));
}
void valgrind_stack(const void *bottom, size_t bytes) { VALGRIND_STACK_REGISTER(bottom, (const char *)bottom + bytes - 1); }
