/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program is told when it is at its end: deadlock, a fatal misuse, an overflowed stack; and the dump of all Gs.
 * Written with raw writes from buffers on the stack: the heap may be what is broken.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/carrier.h"
#include "core/switch.h"
#include "ration/g.h"

#define FRAMES_MOST 32
#define ALTSTACK_BYTES 16384u

static void say(int fd, const char *text, size_t n) {
  while (n) {
    long w = raw_syscall3(SYS_write, fd, (long)text, (long)n);
    if (w <= 0) return;
    text += w;
    n -= (size_t)w;
  }
}

#define SAY(fd, ...)                                          \
  do {                                                        \
    char line_[256];                                          \
    int n_ = snprintf(line_, sizeof line_, __VA_ARGS__);      \
    say(fd, line_, n_ < 256 ? (size_t)n_ : sizeof line_ - 1); \
  } while (0)

static void say_symbol(int fd, const char *before, uintptr_t pc) {
  Dl_info at;
  if (dladdr((void *)pc, &at) && at.dli_sname)
    SAY(fd, "%s%s+%#lx\n", before, at.dli_sname, (unsigned long)(pc - (uintptr_t)at.dli_saddr));
  else if (at.dli_fname)
    SAY(fd, "%s%s(+%#lx)\n", before, at.dli_fname, (unsigned long)(pc - (uintptr_t)at.dli_fbase));
  else
    SAY(fd, "%s%#lx\n", before, (unsigned long)pc);
}

/* By frame pointers, as far as the program has them; never outside of the G's own stack. */
static void say_stack(int fd, const struct g *g) {
  uintptr_t low = (uintptr_t)g->sp, high = (uintptr_t)g;
  if (low < (uintptr_t)g->stack || low >= high) return;
  say_symbol(fd, "    ", switch_pc(g->sp));
  uintptr_t fp = switch_fp(g->sp);
  for (int i = 0; i < FRAMES_MOST && fp > low && fp + 16 <= high && fp % 8 == 0; i++) {
    uintptr_t next = ((uintptr_t *)fp)[0], pc = ((uintptr_t *)fp)[1];
    if (pc < 4096) return;
    say_symbol(fd, "    ", pc);
    if (next <= fp) return;
    fp = next;
  }
}

static const char *status_name(enum g_status s) {
  static const char *const names[] = {"dead", "runnable", "running", "syscall", "waiting"};
  return names[s];
}

struct dump {
  int fd;
  unsigned said;
};

static bool say_g(struct g *g, void *arg) {
  struct dump *d = arg;
  if (g->id == 0 || g->status == G_DEAD || g->kind != G_LIGHT) return true;
  uint64_t now = sys_now();
  SAY(d->fd, "\nG %llu%s%s%s [%s", (unsigned long long)g->id, g->name[0] ? " \"" : "", g->name, g->name[0] ? "\"" : "",
      g->status == G_WAITING ? wait_reason_name(g->why) : status_name(g->status));
  if (g->status == G_WAITING && g->since && now > g->since + 60000000000u)
    SAY(d->fd, ", %llu minutes", (unsigned long long)((now - g->since) / 60000000000u));
  SAY(d->fd, "]:\n");
  if (g->status == G_WAITING || g->status == G_RUNNABLE) say_stack(d->fd, g);
  say_symbol(d->fd, "    began in ", (uintptr_t)g->fn);
  if (g->created_by) SAY(d->fd, "    created by G %llu\n", (unsigned long long)g->created_by);
  return ++d->said < 10000;
}

void report_all(int fd) {
  struct dump d = {.fd = fd};
  stack_each(say_g, &d);
}

void report_deadlock(void) {
  static const char text[] = "fatal error: all Gs are asleep - deadlock!\n";
  say(2, text, sizeof text - 1);
  report_all(2);
  _exit(2);
}

void g_fatal(const char *text) {
  struct g *g = g_self();
  SAY(2, "ration: %s\n", text);
  if (g->kind == G_LIGHT) {
    SAY(2, "in G %llu%s%s, ", (unsigned long long)g->id, g->name[0] ? " " : "", g->name);
    say_symbol(2, "which began in ", (uintptr_t)g->fn);
  }
  abort();
}

/* --- stack overflow --- */

static struct sigaction before;

static void on_fault(int sig, siginfo_t *si, void *ctx) {
  struct g *g = stack_guard_hit((uintptr_t)si->si_addr);
  if (g && g->id) {
    SAY(2, "ration: stack overflow of G %llu \"%s\", %u bytes; ", (unsigned long long)g->id, g->name, g->stack_bytes);
    say_symbol(2, "which began in ", (uintptr_t)g->fn);
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(SIGSEGV, &dfl, NULL);
    return; /* to the same fault, and a core file that shows it */
  }
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(sig, si, ctx);
  } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(SIGSEGV, &dfl, NULL);
  } else {
    before.sa_handler(sig);
  }
}

void report_altstack(void) {
  long at = raw_syscall6(SYS_mmap, 0, ALTSTACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return;
  stack_t ss = {.ss_sp = (void *)at, .ss_size = ALTSTACK_BYTES};
  sigaltstack(&ss, NULL);
}

static void on_quit(int sig) {
  (void)sig;
  SAY(2, "SIGQUIT: all Gs\n");
  report_all(2);
  _exit(2);
}

void report_install(void) {
  struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, quit = {.sa_handler = on_quit}, now;
  sigaction(SIGSEGV, &a, &before);
  if (sigaction(SIGQUIT, NULL, &now) == 0 && now.sa_handler == SIG_DFL) sigaction(SIGQUIT, &quit, NULL);
}
