// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Watches the Ms of the processes that attached: when an M that holds a P blocks
 * in the kernel, its slot says so and, if a G waits for a P, its process is woken;
 * when an M runs user code that it must not (its P was taken, or it shall be
 * preempted), it gets a SIGURG, in user mode only.
 *
 * How a thread is found:
 *
 *   task storage --proc id--> m_maps: the process's M map --tid--> m_tids --> m_slot
 *                         \-> rings: the process's ring buffer
 *
 * The storage is made by `adopt` for the threads that exist when the process
 * attaches and by on_newtask for those born later; it dies with the task.  A proc
 * id is never used twice, so what is left over from an earlier attachment
 * leads nowhere.
 *
 * Everything in an M map is written by its process and believed by nobody: an
 * index is bounded by what the daemon put into the task storage (and again by the map lookup),
 * a slot counts only if it names this thread's own tid, and all that a lie can
 * bring about happens to the liar: marks in its map, events in its ring, SIGURG (or the signal in its place, if it has a handler of it) to itself.
 *
 * No locks.  A slot's BPF fields are written only in the M's own context (all of this
 * runs with interrupts off on the CPU that the M leaves, enters or is on; a thread
 * is on one CPU at a time), so plain stores do, but for two exchanges: see mark_blocked and has_cpu.  `preempt` is the shim's; here it is set, in the same
 * context, when an alarm rings.
 *
 * Not used: sys_enter/sys_exit (they slow every system call of the host), and a
 * signal sent from outside (tgkill by sysmon lands in system calls and makes them return EINTR).
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "proto/m_slot.h"
#include "watch_shared.h"

#pragma GCC diagnostic ignored "-Wunused-parameter" /* the ctx that BPF_PROG declares */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define LOAD(x) (*(volatile __typeof__(x) *)&(x))
#define STORE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

/* Templates of the per-process maps; their sizes are minimums. */
struct m_map {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
  __uint(max_entries, M_MAP_ELEMS(M_SLOTS_MIN));
  __uint(key_size, sizeof(__u32));
  __uint(value_size, M_ELEM_SIZE);
};
struct m_ring {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
  __uint(max_entries, WATCH_PROCS_MAX);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __array(values, struct m_map);
} m_maps SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
  __uint(max_entries, WATCH_PROCS_MAX);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __array(values, struct m_ring);
} rings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct watch_task);
} tasks SEC(".maps");

/* Written by the daemon.  No process attached: every program returns at once. */
__u32 nprocs = 0;
/* What `adopt` is to do, and what it did. */
struct watch_adopt adopt_job = {};

/*
 * A signal to a task other than the current one, Linux >= 6.13: only in watch_next.bpf.c, this file once more.  (Not as a weak symbol that
 * the loader finds or not: to be sure that a kernel has no such function, libbpf looks through its modules, which takes CAP_SYS_ADMIN.)
 */
#ifdef WATCH_SIGNALS_NEXT
extern int bpf_send_signal_task(struct task_struct *task, int sig, enum pid_type type, __u64 value) __ksym;
#define can_signal_next true
#else
#define bpf_send_signal_task(task, sig, type, value) (-1)
#define can_signal_next false
#endif

/* ---- which slot ---- */

/*
 * The tid as the thread itself sees it: the number in the innermost of its pid
 * namespaces.  All by probe reads: Linux 6.1 allows no arithmetic on the pointers of task_struct.
 */
static __always_inline __u32 tid_of(struct task_struct *task) {
  const char *pid = (const char *)BPF_CORE_READ(task, thread_pid);
  __u32 level = BPF_CORE_READ((struct pid *)pid, level);
  if (!pid || level > PID_LEVELS_MAX) return 0;
  const char *upid = pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
  int nr = 0;
  if (bpf_probe_read_kernel(&nr, sizeof(nr), upid + bpf_core_field_offset(struct upid, nr))) return 0;
  return (__u32)nr;
}

/* Element of the M map that holds slot number `slot`, or 0 if there is no such slot. */
static __always_inline __u32 elem_of(const struct watch_task *wt, __u32 slot) { return slot < wt->nslots ? slot + 1 : 0; }

/* Looks the thread's tid up in its process's table. */
static __always_inline __u32 find_elem(const struct watch_task *wt, void *map) {
  __u32 n = wt->nslots, tid = wt->tid, h = M_TIDS_HASH(tid, n);
  struct m_tids *t = NULL;
  for (__u32 i = 0; i < M_TIDS_PROBE; i++) {
    __u32 at = (h + i) & (n * 2 - 1);
    if (!t || at % M_TIDS_PER_ELEM == 0) {
      __u32 key = 1 + n + at / M_TIDS_PER_ELEM;
      t = bpf_map_lookup_elem(map, &key);
      if (!t) return 0;
    }
    struct m_tids_entry *e = &t->e[at % M_TIDS_PER_ELEM];
    __u32 found = LOAD(e->tid);
    if (found == tid) return elem_of(wt, LOAD(e->slot));
    if (found == 0) return 0;
  }
  return 0;
}

/* The slot of a thread, or NULL if it is no M.  Slots are recycled: the remembered one counts while it names our tid. */
static __always_inline struct m_slot *slot_of(struct watch_task *wt, struct task_struct *task, void *map) {
  if (!wt->tid) wt->tid = tid_of(task);
  if (!wt->tid) return NULL;
  __u32 elem = wt->elem;
  struct m_slot *s = elem ? bpf_map_lookup_elem(map, &elem) : NULL;
  if (s && LOAD(s->tid) == wt->tid) return s;
  elem = find_elem(wt, map);
  wt->elem = elem;
  if (!elem) return NULL;
  s = bpf_map_lookup_elem(map, &elem);
  return s && LOAD(s->tid) == wt->tid ? s : NULL;
}

static __always_inline struct m_header *header_of(void *map) {
  __u32 first = 0;
  return bpf_map_lookup_elem(map, &first);
}

/* ---- SIGURG ---- */

/*
 * Is the task, seen from inside the kernel, between two instructions of its user
 * code, and in no system call?  The saved user registers tell: every way into the
 * kernel but a system call leaves "no system call" there.  A page fault counts as user
 * mode, rightly: no signal makes it fail.
 */
static __always_inline bool in_user_mode(struct task_struct *task) {
  void *regs = (void *)bpf_task_pt_regs(task);
  if (bpf_core_field_exists(struct pt_regs___on_x86, orig_ax)) {
    struct pt_regs___on_x86 *r = regs;
    return (long)r->orig_ax < 0 && (r->cs & 3) == 3;
  }
  if (bpf_core_field_exists(struct pt_regs___on_arm64, syscallno)) {
    struct pt_regs___on_arm64 *r = regs;
    return r->syscallno == -1 && (r->pstate & 0xf) == 0;
  }
  return false;
}

/* It has a P, and its alarm rings: the same as if the shim had asked it to stop.  (Seen by the M at its next wrapper, where it is in the kernel.) */
static __always_inline bool asked(struct m_slot *s) {
  if (LOAD(s->preempt)) return true;
  __u32 alarm = LOAD(s->alarm);
  if (!alarm || !M_ALARM_RINGS(alarm, bpf_ktime_get_ns()) || !LOAD(s->has_p)) return false;
  STORE(s->preempt, 1);
  return true;
}

/* Runs user code without a P, or is asked to stop. */
static __always_inline bool must_stop(struct m_slot *s) {
  if (LOAD(s->urg)) return false; /* it has been told */
  __u32 state = LOAD(s->state);
  if ((state == M_RUN || state == M_SYSCALL) && asked(s)) return true;
  return LOAD(s->preempt) || (state == M_RUN && (LOAD(s->taken) || !LOAD(s->has_p)));
}

/* Has the process a handler of the signal?  (The one that hides is not ignored by default: it would end the process.  glibc's posix_spawn has it ignored in its children.) */
static __always_inline bool has_handler(struct task_struct *task, int sig) {
  const char *hand = (const char *)BPF_CORE_READ(task, sighand);
  const char *action = hand + bpf_core_field_offset(struct sighand_struct, action) + (sig - 1) * bpf_core_type_size(struct k_sigaction);
  __u64 fn = 0;
  return hand && !bpf_probe_read_kernel(&fn, sizeof(fn), action + bpf_core_field_offset(struct k_sigaction, sa.sa_handler)) && fn > SIG_IGN;
}

/* The signal that the process has for this; 0: it wants none. */
static __always_inline int signal_of(const struct m_header *h, struct task_struct *task) {
  if (LOAD(h->hidden)) return has_handler(task, M_SIGNAL_HIDDEN) ? M_SIGNAL_HIDDEN : 0;
  return LOAD(h->gated) ? SIGURG : 0;
}

/*
 * To the slot's own thread, found in user mode: to the current one, or (next not NULL) to the one that is being switched to.  Both
 * are sent by the CPU's irq_work, so the latter is done when the switch is over and before `next` is in user mode again.
 */
static __always_inline bool send_urg(struct m_slot *s, void *map, struct task_struct *next) {
  struct m_header *h = header_of(map);
  int sig = h ? signal_of(h, next ? next : bpf_get_current_task_btf()) : 0;
  if (!sig) return true;
  STORE(s->urg, M_URG_BPF);
  if (next ? bpf_send_signal_task(next, sig, PIDTYPE_PID, 0) : bpf_send_signal_thread(sig)) {
    STORE(s->urg, 0); /* the CPU's one deferred signal is under way already, or the thread exits: the next tick tries again */
    return false;
  }
  __sync_fetch_and_add(&h->signals, 1);
  return true;
}

/* ---- switches ---- */

static __always_inline void tell(struct watch_task *wt, struct m_header *h, __u32 type, __u64 now) {
  __u64 proc = wt->proc;
  void *ring = bpf_map_lookup_elem(&rings, &proc);
  if (!ring) return;
  struct m_event ev = {.type = type, .slot = wt->elem - 1, .at = now};
  if (bpf_ringbuf_output(ring, &ev, sizeof(ev), BPF_RB_FORCE_WAKEUP))
    __sync_fetch_and_add(&h->lost, 1);
  else
    __sync_fetch_and_add(&h->events, 1);
}

/*
 * The exchange is a full barrier, for two pairs:
 * - the M's own last stores (state, has_p) come before blocked_at for a retaker that read blocked_at first;
 * - blocked_at is written before `waiting` is read, while the shim writes `waiting` before it reads
 *   blocked_at: one of the two sees the other.  (`gs` is a hint: the monitor's next look finds what it misses.)
 */
static __always_inline void mark_blocked(struct watch_task *wt, struct m_slot *s, void *map, __u64 now) {
  __u32 state = LOAD(s->state), carrier = LOAD(s->carrier);
  if (state != M_RUN && state != M_SYSCALL) return;
  bool has_p = LOAD(s->has_p) && !LOAD(s->taken);
  /* A carrier whose P was taken in one block, and that blocks again before it has noticed, still has the queue of Gs (carrier_retake_running). */
  if (!has_p && !(carrier && state == M_RUN)) return;
  __sync_lock_test_and_set(&s->blocked_at, now);

  struct m_header *h = header_of(map);
  if (h && ((has_p && LOAD(h->waiting)) || (carrier && LOAD(h->gs)))) tell(wt, h, M_EV_BLOCKED, now);
}

/*
 * A reader adds cpu_ns and (now - oncpu_at).  It reads cpu_ns first, and oncpu_at
 * goes to 0 before cpu_ns grows: so no stint counts twice.
 */
static __always_inline void count_stint(struct watch_task *wt, struct m_slot *s, __u64 now) {
  __u64 since = LOAD(s->oncpu_at);
  if (!since) since = wt->in_at; /* it became an M while it ran */
  wt->in_at = 0;                 /* so that a switch in that we miss costs a stint, and never counts one twice */
  STORE(s->oncpu_at, 0);
  if (since && now > since) STORE(s->cpu_ns, LOAD(s->cpu_ns) + (now - since));
  STORE(s->seq, (LOAD(s->seq) + 2) & ~1ull);
}

/* The M map of a thread's process.  NULL: it has none, or says that nobody asks what its Ms do (quiet): then nothing is noted. */
static __always_inline void *map_of(struct watch_task *wt) {
  __u64 proc = wt->proc;
  void *map = bpf_map_lookup_elem(&m_maps, &proc);
  struct m_header *h = map ? header_of(map) : NULL;
  if (!h) return NULL;
  wt->quiet_until = LOAD(h->quiet) ? bpf_jiffies64() + 1 : 0;
  return wt->quiet_until ? NULL : map;
}

/* The same at a switch, where the look at the map is most of what there is to do in a quiet process: once in a jiffy is enough. */
static __always_inline void *map_at_switch(struct watch_task *wt) { return bpf_jiffies64() < wt->quiet_until ? NULL : map_of(wt); }

static __always_inline void switched_out(struct watch_task *wt, struct task_struct *prev, void *map, bool blocked, __u64 now) {
  struct m_slot *s = slot_of(wt, prev, map);
  if (!s) return;
  count_stint(wt, s, now);
  if (blocked)
    mark_blocked(wt, s, map, now);
  else if (must_stop(s) && in_user_mode(prev))
    send_urg(s, map, NULL);
}

/*
 * blocked_at is 0, oncpu_at set and seq odd before the M can run user code.  The
 * exchange is a full barrier: it orders all three before the M's next load of `taken`.  Pairs with the
 * retaker, who writes `taken` and then reads blocked_at (of a blocked M) or seq (of one that
 * waits for a CPU).
 */
static __always_inline void has_cpu(struct m_slot *s, __u64 since) {
  if (LOAD(s->blocked_at)) STORE(s->blocked_at, 0);
  STORE(s->oncpu_at, since);
  __sync_lock_test_and_set(&s->seq, (LOAD(s->seq) + 1) | 1);
}

static __always_inline void switched_in(struct watch_task *wt, struct task_struct *next, void *map, __u64 now) {
  wt->in_at = now;
  wt->quiet_until = 0; /* what follows this switch is to be noted as well, though it was found by the other thread's map */
  struct m_slot *s = slot_of(wt, next, map);
  if (!s) return;
  has_cpu(s, now);
  /* Its P was taken while it had no CPU (as a rule by its own sysmon, which had just displaced it): it must not go on. */
  if (!can_signal_next || !must_stop(s) || !in_user_mode(next) || send_urg(s, map, next)) return;
  /* The kernel sends no signal while the CPU still has another address space (it was idle).  The shim calls membarrier then. */
  struct m_header *h = header_of(map);
  if (h) tell(wt, h, M_EV_STRAY, now);
}

/*
 * prev has blocked if it gave up the CPU of its own accord in a state other than
 * running.  prev_state may be older than the kernel's decision: with a signal
 * pending the task stays runnable, and __state says so.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state) {
  if (!LOAD(nprocs)) return 0;
  __u64 now = 0, proc = 0;
  void *map = NULL;
  if (!(prev->flags & PF_KTHREAD)) {
    struct watch_task *wt = bpf_task_storage_get(&tasks, prev, NULL, 0);
    if (wt) {
      proc = wt->proc;
      map = map_at_switch(wt);
      if (map)
        switched_out(wt, prev, map, !preempt && prev_state && prev->__state, now = bpf_ktime_get_ns());
      else
        wt->in_at = 0; /* the next switch in may not be noted either: this is not the time of it */
    }
  }
  if (!(next->flags & PF_KTHREAD)) {
    struct watch_task *wt = bpf_task_storage_get(&tasks, next, NULL, 0);
    if (!wt) return 0;
    if (wt->proc != proc) map = map_at_switch(wt);
    if (map) switched_in(wt, next, map, now ? now : bpf_ktime_get_ns());
  }
  return 0;
}

/* ---- a thread that stays on its CPU ---- */

/*
 * The current thread's slot says that it is off its CPU: a switch in that we were not told of.  The kernel may leave a program out at a switch
 * (one that interrupts it, see bpf_prog's recursion_misses; a sandbox's kernel that shows nothing of its own init), and what runs
 * would pass for blocked.
 */
static __always_inline void make_up_switch_in(struct watch_task *wt, struct m_slot *s) {
  if (LOAD(s->oncpu_at)) return;
  has_cpu(s, wt->in_at ? wt->in_at : bpf_ktime_get_ns()); /* in_at: it became an M while it ran */
}

/* In an interrupt: does the thread that was interrupted have to stop? */
static __always_inline int look_at_current(void) {
  if (!LOAD(nprocs)) return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  if (task->flags & PF_KTHREAD) return 0;
  struct watch_task *wt = bpf_task_storage_get(&tasks, task, NULL, 0);
  if (!wt) return 0;
  void *map = map_of(wt);
  if (!map) return 0;
  struct m_slot *s = slot_of(wt, task, map);
  if (!s) return 0;
  make_up_switch_in(wt, s);
  if (must_stop(s) && in_user_mode(task)) send_urg(s, map, NULL);
  return 0;
}

/* Any high-resolution timer of this CPU, its tick among them. */
SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(on_tick) { return look_at_current(); }

/* The interrupts by which membarrier(PRIVATE_EXPEDITED) reaches the CPUs that run the caller's process (x86). */
SEC("tp_btf/call_function_single_entry")
int BPF_PROG(on_ipi_one) { return look_at_current(); }

SEC("tp_btf/call_function_entry")
int BPF_PROG(on_ipi_many) { return look_at_current(); }

/* ---- which threads are watched ---- */

/* A new thread of a watched process is watched from its first switch on; a new process is not. */
SEC("tp_btf/task_newtask")
int BPF_PROG(on_newtask, struct task_struct *task, __u64 clone_flags) {
  if (!LOAD(nprocs) || !(clone_flags & CLONE_THREAD)) return 0;
  struct watch_task *parent = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), NULL, 0);
  if (!parent) return 0;
  struct watch_task child = {.proc = parent->proc, .nslots = parent->nslots};
  bpf_task_storage_get(&tasks, task, &child, BPF_LOCAL_STORAGE_GET_F_CREATE);
  return 0;
}

/*
 * Another program runs from here on, maybe with more rights (set-uid): who has the old one's M map must not see and signal it.  It has its new rights
 * for a moment before this, but in the kernel, where it is not signalled.  The new program attaches by itself.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task) {
  if (LOAD(nprocs)) bpf_task_storage_delete(&tasks, task);
  return 0;
}

/*
 * The daemon runs this over the threads of one process, to make them belong to
 * adopt_job.task.proc (and counts those that did not yet), or to let go of it.  A process that has become another user's since it asked is refused.
 */
SEC("iter/task")
int adopt(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  if (!task) return 0;
  struct watch_task *wt = bpf_task_storage_get(&tasks, task, NULL, 0);
  if (adopt_job.release) {
    if (wt && wt->proc == adopt_job.task.proc) bpf_task_storage_delete(&tasks, task);
    return 0;
  }
  adopt_job.seen++;
  if (adopt_job.uid && BPF_CORE_READ(task, real_cred, euid.val) != adopt_job.uid) {
    adopt_job.refused++;
    return 0;
  }
  if (wt && wt->proc == adopt_job.task.proc) return 0;
  struct watch_task fresh = adopt_job.task;
  if (wt)
    *wt = fresh; /* on_switch may read halves of it at this moment: each half is checked like the whole */
  else if (!bpf_task_storage_get(&tasks, task, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE))
    return 0;
  adopt_job.adopted++;
  return 0;
}
