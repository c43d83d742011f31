/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preemption: asking an M to give its P up.
 *
 *   the M is in a wrapper      nothing more than `preempt`: it looks on its way in and out
 *   it runs in user mode       SIGURG.  Its handler (gate_sigurg) parks the G there and then
 *
 * Nobody may be signalled inside a system call: poll, nanosleep and others would
 * return EINTR to a program that never asked for it.  Two ways to be sure:
 *
 *   BPF      we set `preempt`; BPF sends the signal from an interrupt that found the thread in user
 *            mode (the tick, or at once the IPI of our membarrier call): exact (bpf/watch.bpf.c)
 *   queue    we set `preempt`, make every CPU pass a fence (membarrier), and signal only
 *            if the state is still M_RUN.  If the M enters a wrapper between our look and the
 *            signal's arrival, it sees `preempt`, settles, and waits for the signal (drain_signal) before it
 *            makes its call.  A raw system call that no wrapper sees is exposed for these few microseconds; Go
 *            lives with the same.
 */
#include "core/sched.h"
#include <linux/membarrier.h>
#include "core/preempt.h"
#include "core/decimal.h"

_Atomic bool preempt_no_signals;
_Atomic int preempt_signal = SIGURG;

/* What our signals carry, that no other does. */
static const char sign;

/*
 * `sent` alone does not tell: a second request may store it while the first signal is pending, be interrupted, and send when the first's handler has
 * taken it.  That signal would be taken for the program's, and block SIGURG for a thread that has it blocked; which then is never stopped again.
 */
bool preempt_sent(const siginfo_t *si) { return si->si_code == SI_QUEUE && si->si_value.sival_ptr == &sign; }

/* By default others than SIGURG end the process, should its handler have been taken away by a raw system call: never again then. */
static bool is_handled(int sig) {
  struct sys_action now;
  if (sig == SIGURG) return true;
  if (sys_sigaction(sig, NULL, &now) == 0 && now.fn > (uintptr_t)SIG_IGN) return true;
  atomic_store_explicit(&preempt_no_signals, true, memory_order_relaxed);
  return false;
}

static void send_sigurg(struct m *m) {
  int sig = atomic_load_explicit(&preempt_signal, memory_order_relaxed);
  if (atomic_load_explicit(&preempt_no_signals, memory_order_relaxed) || !is_handled(sig)) return;
  siginfo_t si;
  __builtin_memset(&si, 0, sizeof si);
  si.si_signo = sig;
  si.si_code = SI_QUEUE;
  si.si_pid = (pid_t)sys_getpid();
  si.si_value.sival_ptr = (void *)&sign;
  atomic_store_explicit(&m->sent, 1, memory_order_release); /* pairs with the exchange in gate_sigurg */
  if (raw_syscall4(SYS_rt_tgsigqueueinfo, si.si_pid, m->tid, sig, (long)&si) < 0) atomic_store_explicit(&m->sent, 0, memory_order_relaxed);
}

static int private_barrier(void) { return (int)raw_syscall3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

static void wake_word(_Atomic uint32_t *word, bool shared) { sys_futex_wake(word, 1, shared); }

static uint64_t thread_clock(const struct m *m) { return sys_thread_cpu_ns(m->tid); }

/* State S or D in /proc/self/task/TID/stat.  Only from a thread with a descriptor table of its own (sysmon). */
static bool sleeps_by_proc(const struct m *m) {
  char path[48], buf[128];
  if (m_self) return false;
  task_path(path, m->tid, "/stat");
  int fd = (int)raw_syscall4(SYS_openat, -100 /* AT_FDCWD */, (long)path, 02000000 /* O_CLOEXEC */, 0);
  if (fd < 0) return false;
  long got = raw_syscall3(SYS_read, fd, (long)buf, sizeof buf - 1);
  raw_syscall1(SYS_close, fd);
  /* "tid (comm) S ...": comm is at most 15 bytes and may hold anything, also ')' */
  for (long i = got - 3; i > 0; i--)
    if (buf[i] == ')' && buf[i + 1] == ' ' && buf[i + 3] == ' ') return buf[i + 2] == 'S' || buf[i + 2] == 'D';
  return false;
}

struct sched_hooks sched_hooks = {
    .now = sys_now,
    .wake = wake_word,
    .signal = send_sigurg,
    .barrier = private_barrier,
    .cpu_ns = thread_clock,
    .sleeps = sleeps_by_proc,
};

/* While the process has one thread this costs nothing; later the kernel waits for a grace period. */
void preempt_init(void) { raw_syscall3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0); }

/*
 * An older daemon's BPF knows of SIGURG only, and of `gated`: so that is 0 where ours is another, and BPF sends none.  It
 * still sees who blocks and who has a CPU.
 */
void preempt_gated(bool gated) {
  SCHED_ASSERT_LOCKED();
  if (!sched.header) return;
  bool hidden = preempt_is_hidden();
  SLOT_STORE(sched.header->hidden, gated && hidden);
  SLOT_STORE(sched.header->gated, gated && !hidden);
}

void preempt_hide(void) {
  sched_lock();
  atomic_store_explicit(&preempt_signal, M_SIGNAL_HIDDEN, memory_order_seq_cst);
  preempt_gated(sched.gated);
  sched_unlock();
}

uint32_t preempt_caps(void) {
  uint32_t caps = sched.header ? SLOT_LOAD(sched.header->caps) : 0;
  return preempt_is_hidden() && !(caps & M_CAP_HIDDEN) ? caps & M_CAP_LIVE : caps;
}

/* BPF tells nobody twice.  Whoever must stop is told anew. */
void preempt_lost(void) {
  sched_lock();
  for (struct m *m = sched.allm; m; m = m->next) SLOT_STORE(m->slot->urg, 0);
  sched_unlock();
}

static bool bpf_sends(const struct m *m, bool again) {
  if (!m_seen_by_bpf(m)) return false;
  uint32_t caps = preempt_caps();
  return (caps & M_CAP_IPI) || ((caps & M_CAP_TICK) && again);
}

void preempt_request(struct m *m, uint64_t now) {
  SCHED_ASSERT_LOCKED();
  bool again = m->preempt_at != 0;
  m->preempt_at = now;
  SLOT_STORE(m->slot->preempt, 1);
  if (m == sched.looks) return;              /* it sees it when it has looked */
  atomic_thread_fence(memory_order_seq_cst); /* `preempt` before state: pairs with run_again */
  if (SLOT_LOAD(m->slot->state) != M_RUN) return;
  int fenced = sched_hooks.barrier(); /* pairs with the stores and loads of m_entersyscall; the IPI also makes BPF look */
  if (bpf_sends(m, false) && !again) return;
  if (again && bpf_sends(m, true) && (SLOT_LOAD(m->slot->urg) != 0)) return; /* on its way */
  if (fenced < 0 || SLOT_LOAD(m->slot->state) != M_RUN) return;
  sched.stats.signals++;
  sched_hooks.signal(m);
}
