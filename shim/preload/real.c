/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The look-up of the functions behind the wrappers; real.h says how it is used.
 *
 * No lock of our own: two threads that look up at the same time store the same
 * values.  dlsym may call back into a wrapper (when it fails it asks malloc for the text of
 * its error, and a malloc that is not libc's may call anything): such an inner
 * call looks up its own function only.  If even that comes back to
 * itself, the function is one that this libc does not have.
 *
 * Versions.  A wrapper has no version, so it gets the calls of programs built
 * against any; the newest is right for all but binaries of twenty years ago.  dlsym with RTLD_NEXT
 * does not promise the newest where a symbol has several, so those are asked for by name.
 */
#include "preload/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

extern struct real_sym *const __start_ration_real[] __attribute__((visibility("hidden")));
extern struct real_sym *const __stop_ration_real[] __attribute__((visibility("hidden")));

#if defined(__x86_64__)
static const char *const newest[][2] = {
    {"pthread_cond_broadcast", "GLIBC_2.3.2"},
    {"pthread_cond_destroy", "GLIBC_2.3.2"},
    {"pthread_cond_init", "GLIBC_2.3.2"},
    {"pthread_cond_signal", "GLIBC_2.3.2"},
    {"pthread_cond_timedwait", "GLIBC_2.3.2"},
    {"pthread_cond_wait", "GLIBC_2.3.2"},
    {"posix_spawn", "GLIBC_2.15"},
    {"posix_spawnp", "GLIBC_2.15"},
    {"pthread_getaffinity_np", "GLIBC_2.3.4"},
    {"pthread_setaffinity_np", "GLIBC_2.3.4"},
    {"sched_getaffinity", "GLIBC_2.3.4"},
    {"sched_setaffinity", "GLIBC_2.3.4"},
    {"timer_create", "GLIBC_2.3.3"},
    {"timer_delete", "GLIBC_2.3.3"},
    {"timer_settime", "GLIBC_2.3.3"},
};
#else
/* aarch64 came with glibc 2.17: one version of each. */
static const char *const newest[][2] = {{"", ""}};
#endif

long real_missing(void) {
  errno = ENOSYS;
  return -1;
}

static void *look_up(const char *name) {
  for (size_t i = 0; i < sizeof newest / sizeof *newest; i++) {
    if (strcmp(newest[i][0], name) != 0) continue;
    void *fn = dlvsym(RTLD_NEXT, name, newest[i][1]);
    if (fn) return fn;
  }
  void *fn = dlsym(RTLD_NEXT, name);
  return fn ? fn : (void *)real_missing;
}

/* > 0: this thread is inside look_up. */
static __thread unsigned depth;

static void *resolve(struct real_sym *s) {
  void *fn = __atomic_load_n(&s->fn, __ATOMIC_RELAXED);
  if (fn) return fn;
  depth++;
  fn = look_up(s->name);
  depth--;
  __atomic_store_n(&s->fn, fn, __ATOMIC_RELAXED);
  return fn;
}

void real_init(void) {
  int saved = errno;
  for (struct real_sym *const *e = __start_ration_real; e < __stop_ration_real; e++) resolve(*e);
  errno = saved;
}

void *real_get_slow(struct real_sym *s) {
  int saved = errno;
  void *fn = (void *)real_missing;
  if (depth == 0) {
    fn = resolve(s);
    real_init();
  } else if (depth < 8) {
    fn = resolve(s);
  }
  errno = saved;
  return fn;
}

/* 101: the first of our constructors. */
__attribute__((constructor(101))) static void real_constructor(void) { real_init(); }
