/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_REAL_H
#define RATION_PRELOAD_REAL_H
/*
 * How a wrapper finds the function that it stands in front of.
 *
 * Each subject lists its functions once, in its own header or .c file:
 *
 *   #define REAL_IO(X)                              \
 *     X(ssize_t, read, (int, void *, size_t))       \
 *     X(int, fcntl, (int, int, ...))
 *
 *   REAL_DECLARE(REAL_IO)      where it is used (a header, if several files use it)
 *   REAL_DEFINE(REAL_IO)       in exactly one .c file; it declares too
 *
 *   EXPORT ssize_t read(int fd, void *buf, size_t n) {
 *     ...
 *     return REAL(read)(fd, buf, n);
 *   }
 *
 * REAL(f) is one load and a test.  All functions are looked up in one go by
 * real_init, from the constructor of the library; whoever comes earlier (the
 * constructor of another library, a malloc that is not libc's) makes real_init
 * run then.  Later there are no look-ups, on purpose: dlsym takes the loader's lock, and a
 * thread that a dlopen waits for would wait for the dlopen.
 * After real_init REAL(f) is async-signal-safe, and right in a child of fork or vfork.
 *
 * A function that this libc does not have is one that returns -1 with ENOSYS;
 * REAL_HAS(f) tells.
 */
#include <stdbool.h>
#include <stddef.h>

/* The mark of a function that the program is to find before libc's. */
#define EXPORT __attribute__((visibility("default")))

struct real_sym {
  void *fn; /* null until looked up; written once (or several times with the same value) */
  const char *name;
};

#define REAL_DECLARE_ONE(ret, name, args) \
  typedef ret real_fn_##name args;        \
  extern struct real_sym real_sym_##name;

/* Pointers go to a section of their own, so that real_init finds them all. */
#define REAL_DEFINE_ONE(ret, name, args)           \
  REAL_DECLARE_ONE(ret, name, args)                \
  struct real_sym real_sym_##name = {NULL, #name}; \
  static struct real_sym *const real_entry_##name __attribute__((section("ration_real"), used, aligned(sizeof(void *)))) = &real_sym_##name;

#define REAL_DECLARE(LIST) LIST(REAL_DECLARE_ONE)
#define REAL_DEFINE(LIST) LIST(REAL_DEFINE_ONE)

#define REAL(name) ((real_fn_##name *)real_get(&real_sym_##name))
#define REAL_HAS(name) real_found(&real_sym_##name)

/* Looks up everything.  Any thread, any number of times. */
void real_init(void);
/* Runs real_init and returns s->fn, never null. */
void *real_get_slow(struct real_sym *s);
/* What stands for a function that libc doesn't have. */
long real_missing(void);

static inline void *real_get(struct real_sym *s) {
  /* Relaxed: what it points to is code that was mapped before we were. */
  void *fn = __atomic_load_n(&s->fn, __ATOMIC_RELAXED);
  return __builtin_expect(fn != NULL, 1) ? fn : real_get_slow(s);
}

static inline bool real_found(struct real_sym *s) { return real_get(s) != (void *)real_missing; }

#endif
