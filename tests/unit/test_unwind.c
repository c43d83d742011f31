/* SPDX-License-Identifier: Apache-2.0 */
/* The unwinder against backtrace(); symbols of static functions; /proc/self/maps and .../syscall. */
#include "unit.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/procmaps.h"
#include "core/symbol.h"
#include "core/unwind.h"

#define MOST 64
#ifdef RATION_SAN_thread
#define TSAN 1
#else
#define TSAN 0
#endif
#define KEPT __attribute__((noinline, noclone))

/* NOLINTBEGIN(bugprone-signal-handler): look() runs in handlers here because that is what is tested; the signals are our own and come between calls */
static struct unwind_range own_stack(void) {
  pthread_attr_t a;
  void *low;
  size_t size;
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, &low, &size);
  pthread_attr_destroy(&a);
  return (struct unwind_range){(uintptr_t)low, (uintptr_t)low + size};
}

/* Both from the same function; how many frames agree, from the caller on. */
static struct {
  uintptr_t ours[MOST];
  void *theirs[MOST];
  uint32_t nours;
  int ntheirs;
} seen;

static KEPT void look(void) {
  struct unwind_range on = own_stack();
  struct symbols *s = symbols_open();
  struct unwind *u = unwind_open(s);
  struct unwind_regs regs;
  seen.ntheirs = backtrace(seen.theirs, MOST);
  unwind_from_here(&regs);
  seen.nours = unwind_stack(u, &regs, false, &on, 1, seen.ours, MOST);
  unwind_close(u);
  symbols_close(s);
}

/* NOLINTEND(bugprone-signal-handler) */

/* The first is in look() itself, at another place, and ASan's backtrace begins elsewhere; below main they may go on as they like. */
static void both_agree(uint32_t least) {
  int from = 0;
  ck_assert_uint_ge(seen.nours, least);
  while (from < seen.ntheirs && (uintptr_t)seen.theirs[from] != seen.ours[1] >> 1) from++;
  ck_assert_int_ge(seen.ntheirs - from, (int)least - 1);
  for (uint32_t i = 1; i < least; i++) ck_assert_uint_eq(seen.ours[i] >> 1, (uintptr_t)seen.theirs[from + (int)i - 1]);
}

static volatile int sink;
static KEPT void deep(int n) {
  volatile char frame[100];
  frame[0] = (char)n;
  if (n > 0)
    deep(n - 1);
  else
    look();
  sink += frame[0];
}

/* Frames of a size that is not known before: the CFA is by the frame pointer here. */
static KEPT void odd(int n) {
  char *a = __builtin_alloca((size_t)n * 16 + 16);
  memset(a, n, 16);
  if (n > 0)
    odd(n - 1);
  else
    look();
  sink += a[3];
}

START_TEST(frames_are_those_of_backtrace) {
  deep(20);
  both_agree(22);
  odd(20);
  both_agree(22);
}
END_TEST

static void on_signal(int sig) {
  (void)sig;
  look();
}
static KEPT void interrupted(void) {
  raise(SIGUSR1);
  sink++;
}
static void find_interrupted(void) {
  struct symbols *s = symbols_open();
  bool found = false, exact = false;
  for (uint32_t i = 0; i < seen.nours; i++) {
    struct sym_name n = symbols_name(s, seen.ours[i] >> 1, seen.ours[i] & 1);
    found |= n.function && strcmp(n.function, "interrupted") == 0;
    exact |= i > 0 && !(seen.ours[i] & 1);
  }
  symbols_close(s);
  ck_assert(found);
  ck_assert(exact);
}
START_TEST(a_handler_and_what_it_interrupted_are_one_stack) {
  if (TSAN) return; /* backtrace in a handler is not to its liking */
  signal(SIGUSR1, on_signal);
  interrupted();
  both_agree(4);
  find_interrupted();
}
END_TEST

static void on_context(int sig, siginfo_t *si, void *uctx) {
  (void)sig, (void)si;
  struct unwind_range on = own_stack();
  struct symbols *s = symbols_open();
  struct unwind *u = unwind_open(s);
  struct unwind_regs regs;
  unwind_from_context(&regs, uctx);
  seen.nours = unwind_stack(u, &regs, false, &on, 1, seen.ours, MOST);
  unwind_close(u);
  symbols_close(s);
}
START_TEST(a_context_leads_to_where_the_thread_was) {
  if (TSAN) return;
  struct sigaction a = {.sa_sigaction = on_context, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &a, NULL);
  interrupted();
  struct symbols *s = symbols_open();
  bool found = false;
  for (uint32_t i = 0; i < seen.nours; i++) {
    struct sym_name n = symbols_name(s, seen.ours[i] >> 1, seen.ours[i] & 1);
    found |= n.function && strcmp(n.function, "interrupted") == 0;
  }
  ck_assert(found);
  symbols_close(s);
}
END_TEST

/* Nonsense of all kinds: it has to end, and nothing more. */
START_TEST(any_registers_and_any_stack_end_somewhere) {
  static uint64_t stack[512];
  struct symbols *s = symbols_open();
  struct unwind *u = unwind_open(s);
  struct unwind_range on = {(uintptr_t)stack, (uintptr_t)(stack + 512)};
  uintptr_t frames[MOST];
  uint64_t x = 88172645463325252u;
  for (int round = 0; round < 20000; round++) {
    struct unwind_regs regs = {.known = (uint64_t)-1};
    for (uint32_t i = 0; i < 512; i++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      stack[i] = x % 3 ? (uintptr_t)look + x % 65536 - 32768 : (uintptr_t)stack + x % sizeof stack;
    }
    for (uint32_t i = 0; i < UNWIND_REGS; i++) regs.r[i] = stack[i];
    regs.r[UNWIND_SP] = on.low + x % 2048;
    regs.pc = round % 2 ? (uintptr_t)raise + x % 512 : stack[round % 512];
    ck_assert_uint_le(unwind_stack(u, &regs, round & 2, &on, 1, frames, MOST), MOST);
  }
  unwind_close(u);
  symbols_close(s);
}
END_TEST

START_TEST(static_functions_have_names) {
  struct symbols *s = symbols_open();
  struct sym_name n = symbols_name(s, (uintptr_t)deep, false);
  ck_assert_ptr_nonnull(n.function);
  ck_assert_str_eq(n.function, "deep");
  ck_assert_uint_eq(n.offset, 0);
  ck_assert_str_eq(n.file, "test_unwind");
  ck_assert(!n.exported);
  n = symbols_name(s, (uintptr_t)deep + 1, true);
  ck_assert_str_eq(n.function, "deep");
  n = symbols_name(s, (uintptr_t)&sink, false); /* data */
  ck_assert_ptr_null(n.function);
  ck_assert_ptr_null(n.file);
  ck_assert(!symbols_executable(s, (uintptr_t)&sink));
  ck_assert(symbols_executable(s, (uintptr_t)deep));
  symbols_close(s);
}
END_TEST

struct wanted {
  uintptr_t at;
  bool seen, write, shared;
};
static bool look_for(const struct procmap *m, void *arg) {
  struct wanted *w = arg;
  ck_assert_uint_lt(m->from, m->to);
  if (w->at < m->from || w->at >= m->to) return true;
  w->seen = true;
  w->write = m->write;
  w->shared = m->shared;
  return true;
}
START_TEST(mappings_are_all_there) {
  int n = 0;
  for (int i = 0; i < 1000; i++) /* many lines: more than one read */
    ck_assert_ptr_ne(mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct wanted w[] = {{(uintptr_t)p, 0, 0, 0}, {(uintptr_t)&n, 0, 0, 0}, {(uintptr_t)look, 0, 0, 0}};
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(procmaps_each(look_for, &w[i]), 0);
    ck_assert(w[i].seen);
  }
  ck_assert(w[0].write && w[0].shared && w[1].write && !w[1].shared && !w[2].write);
}
END_TEST

static int pipe_fds[2];
static _Atomic uint32_t reader_tid;
static _Atomic uintptr_t reader_frame;
static void *reads(void *arg) {
  char byte;
  reader_frame = (uintptr_t)__builtin_frame_address(0); /* not a variable's: ASan keeps those elsewhere */
  reader_tid = (uint32_t)syscall(SYS_gettid);
  while (read(pipe_fds[0], &byte, 1) > 0) continue;
  return arg;
}
START_TEST(the_kernel_tells_where_a_thread_is_blocked) {
#if defined(__aarch64__)
  if (1) return; /* qemu-user shows its own stack here */
#endif
  pthread_t t;
  uintptr_t pc = 0, sp = 0;
  ck_assert_int_eq(pipe(pipe_fds), 0);
  pthread_create(&t, NULL, reads, NULL);
  for (int i = 0; i < 5000 && !(reader_tid && procmaps_blocked_at(reader_tid, &pc, &sp) && reader_frame - sp < 4096); i++) usleep(1000);
  ck_assert_uint_lt(reader_frame - sp, 4096);
  struct symbols *s = symbols_open();
  ck_assert(symbols_executable(s, pc));
  symbols_close(s);
  ck_assert(!procmaps_blocked_at(1, &pc, &sp)); /* no thread of ours */
  close(pipe_fds[1]);
  pthread_join(t, NULL);
}
END_TEST

UNIT_MAIN("unwind", frames_are_those_of_backtrace, a_handler_and_what_it_interrupted_are_one_stack, a_context_leads_to_where_the_thread_was,
          any_registers_and_any_stack_end_somewhere, static_functions_have_names, mappings_are_all_there,
          the_kernel_tells_where_a_thread_is_blocked)
