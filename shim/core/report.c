/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program is told when it is at its end: deadlock, a fatal misuse, an overflowed stack; and the dump of all Gs.
 * Written with raw writes from buffers on the stack: the heap may be what is broken.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/carrier.h"
#include "core/gdump.h"
#include "ration/g.h"

static void say(int fd, const char *text) { raw_syscall3(SYS_write, fd, (long)text, (long)strlen(text)); }

static void say_g(struct out *o, const struct g *g) {
  out_str(o, "G ");
  out_num(o, g->id);
  if (g->name[0]) {
    out_str(o, " \"");
    out_str(o, g->name);
    out_str(o, "\"");
  }
}

static void say_beginning(struct out *o, const struct g *g) {
  struct symbols *s = symbols_open();
  out_str(o, "which began in ");
  gdump_pc(o, s, (uintptr_t)g->fn, false);
  out_str(o, "\n");
  symbols_close(s);
}

void report_deadlock(void) {
  say(2, "fatal error: all Gs are asleep - deadlock!\n");
  gdump_all(2);
  _exit(2);
}

void g_fatal(const char *text) {
  struct g *g = g_self();
  struct out o = {.fd = 2};
  out_str(&o, "ration: ");
  out_str(&o, text);
  out_str(&o, "\n");
  if (g->kind == G_LIGHT) {
    out_str(&o, "in ");
    say_g(&o, g);
    out_str(&o, ", ");
    say_beginning(&o, g);
  }
  out_flush(&o);
  abort();
}

/* --- stack overflow --- */

static struct sigaction before;

/* To the same fault, and a core file that shows it.  What somebody sent does not come again by itself: it is sent again, and is there when the handler returns. */
static void end_by_default(const siginfo_t *si) {
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  sigaction(SIGSEGV, &dfl, NULL);
  if (si->si_code <= 0) raw_syscall3(SYS_tgkill, getpid(), raw_syscall0(SYS_gettid), SIGSEGV);
}

static void on_fault(int sig, siginfo_t *si, void *ctx) {
  bool sent = si->si_code <= 0; /* and has no address */
  struct g *g = sent ? NULL : stack_guard_hit((uintptr_t)si->si_addr);
  if (g && g->id) {
    struct out o = {.fd = 2};
    out_str(&o, "ration: stack overflow of ");
    say_g(&o, g);
    out_str(&o, ", ");
    out_num(&o, g->stack_bytes);
    out_str(&o, " bytes; ");
    say_beginning(&o, g);
    out_flush(&o);
    end_by_default(si);
    return;
  }
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(sig, si, ctx);
  } else if (before.sa_handler == SIG_DFL || (before.sa_handler == SIG_IGN && !sent)) {
    end_by_default(si);
  } else if (before.sa_handler != SIG_IGN) {
    before.sa_handler(sig);
  }
}

static void on_quit(int sig) {
  (void)sig;
  say(2, "SIGQUIT: all Gs\n");
  gdump_all(2);
  _exit(2);
}

void report_install(void) {
  struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, quit = {.sa_handler = on_quit}, now;
  if (sigaction(SIGSEGV, &a, &now) == 0 && !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault))
    before = now; /* else it is the second ration_main */
  if (sigaction(SIGQUIT, NULL, &now) == 0 && now.sa_handler == SIG_DFL) sigaction(SIGQUIT, &quit, NULL);
}
