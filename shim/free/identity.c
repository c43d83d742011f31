/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Harvested identities.  All that glibc has of a thread hangs off the thread pointer.  A real pthread_create makes it, on a stack that we give:
 *
 *   | guard |  stack, from its top down  |  static TLS, struct pthread |
 *                                  ^ top: the new thread's frames end here; a G's first frame goes below
 *
 * The new kernel thread takes down its thread pointer, takes the kernel's hands off the TCB (set_tid_address, robust list, rseq) and leaves by a raw exit, so
 * that nothing of it is torn down: glibc counts a thread that any kernel thread can put on.  When the kernel has cleared `alive` nobody is on the stack any more.
 *
 * An identity is used again and again, as glibc uses a cached stack again.  For a new thread the TLS of all modules is what their images say; libc's own
 * stays (malloc's cache among it; glibc itself would free it first, by a function that we can't call), with errno and locale set back, and so does ours.
 *
 * The tid in the TCB is what recursive locks inside of libc know their owner by, so it must not change while a G goes from one kernel thread to another, and be nobody
 * else's: we number from 2^27 on, where the kernel has none (PID_MAX_LIMIT is 2^22).  Each life has a number of its own, as a program may keep those of threads that
 * have ended: the identity's place in the lower bits, how often it has lived above, so no two that live are equal.  They come again after 256 lives.
 * Below 2^28, as the number that the kernel has for the CPU clock of a thread has 28 bits for the tid: theirs is their own.
 *
 * Offsets in struct pthread are those that glibc tells debuggers (libthread_db's descriptors), tried out on the main thread before use.
 *
 * id_lock guards the arena and the numbers; nothing is taken under it.
 */
#include "free/identity.h"
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <locale.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include "core/light.h"
#include "core/lock.h"
#include "core/m.h"
#include "core/sched.h"
#include "core/stack.h"
#include "core/tp.h"
#include "free/robust.h"
#include "free/setxid.h"

#define PAGE 4096u
#define TID_LIVES ((THREAD_ID_CLOCKS - THREAD_ID_FIRST) / THREAD_ID_PLACES)
#define ARENA_STACKS 32u
#define ARENAS 4u
#define FRAMES_APART 256u /* between the frames that start_thread has left and the first of a G */
#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2u
#endif

static identity_create_fn *real_create;
static size_t tid_at, cancel_at; /* offsets in struct pthread */
static size_t map_tls_at;        /* in struct link_map: the distance of its TLS from the thread pointer; 0: not known */
static void (*call_tls_dtors)(void);
static size_t kept_modules[3]; /* libc, ld.so, ours: their TLS is not made anew */
static _Atomic uint32_t nidentities;
static _Atomic bool executable; /* stacks are: some library wants it */

/* --- what glibc tells debuggers --- */

static bool offset_of(const char *name, size_t *at) {
  const uint32_t *desc = dlsym(RTLD_DEFAULT, name); /* bits, number of elements, offset */
  if (!desc || desc[0] != 32 || desc[2] < 64 || desc[2] > 4096) return false;
  *at = desc[2];
  return true;
}

static uint32_t *word_at(pthread_t t, size_t at) { return (uint32_t *)((char *)t + at); }

_Atomic uint32_t *identity_cancel_word_of(pthread_t t) { return (_Atomic uint32_t *)word_at(t, cancel_at); }
_Atomic uint32_t *identity_cancel_word(const struct identity *id) { return identity_cancel_word_of(id->self); }

static void find_map_tls(void) {
  const uint32_t *desc = dlsym(RTLD_DEFAULT, "_thread_db_link_map_l_tls_offset");
  if (desc && desc[0] == 8 * sizeof(size_t) && desc[2] >= sizeof(struct link_map) && desc[2] < 4096) map_tls_at = desc[2];
}

/* Do they say what we think they do?  Asked of the calling thread. */
static bool offsets_hold(void) {
  pthread_t self = pthread_self();
  uint32_t *cancel = word_at(self, cancel_at), before = *cancel;
  int state, type;
  if (*word_at(self, tid_at) != sys_gettid()) return false;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  uint32_t both = *(volatile uint32_t *)cancel;
  pthread_setcanceltype(type, NULL);
  pthread_setcancelstate(state, NULL);
  return both == (before | IDENTITY_CANCEL_OFF | IDENTITY_CANCEL_ASYNC) && *(volatile uint32_t *)cancel == before;
}

static bool is_vdso(const struct dl_phdr_info *info) {
  uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
  return vdso && (uintptr_t)info->dlpi_phdr - vdso < 4096;
}

static bool holds(const struct dl_phdr_info *info, uintptr_t addr) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
    if (ph->p_type == PT_LOAD && addr - (info->dlpi_addr + ph->p_vaddr) < ph->p_memsz) return true;
  }
  return false;
}

/* As glibc: an object that does not say what stacks it wants may have code on them. */
static bool wants_code_on_stacks(const struct dl_phdr_info *info) {
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_GNU_STACK) return info->dlpi_phdr[i].p_flags & PF_X;
  return info->dlpi_phnum > 0 && !is_vdso(info);
}

static int look_for_code(struct dl_phdr_info *info, size_t size, void *arg) {
  (void)size;
  (void)arg;
  if (wants_code_on_stacks(info)) atomic_store_explicit(&executable, true, memory_order_relaxed);
  return atomic_load_explicit(&executable, memory_order_relaxed);
}

void identity_runs_code(struct identity *id) {
  if (atomic_exchange_explicit(&id->executable, true, memory_order_relaxed)) return;
  raw_syscall3(SYS_mprotect, (long)(id->map + id->guard), (long)(id->bytes - id->guard), PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int keep_module(struct dl_phdr_info *info, size_t size, void *arg) {
  const uintptr_t *at = arg;
  (void)size;
  for (int i = 0; i < 3; i++)
    if (at[i] && holds(info, at[i])) kept_modules[i] = info->dlpi_tls_modid;
  return 0;
}

bool identity_init(identity_create_fn *create) {
  real_create = create;
  call_tls_dtors = (void (*)(void))dlsym(RTLD_DEFAULT, "__call_tls_dtors");
  if (!call_tls_dtors || !offset_of("_thread_db_pthread_tid", &tid_at) || !offset_of("_thread_db_pthread_cancelhandling", &cancel_at))
    return false;
  if (!offsets_hold()) return false;
  find_map_tls();
#if defined(__x86_64__)
  tp_by_instruction = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
#endif
  uintptr_t at[3] = {(uintptr_t)call_tls_dtors, getauxval(AT_BASE), (uintptr_t)identity_init};
  dl_iterate_phdr(keep_module, at);
  dl_iterate_phdr(look_for_code, NULL);
  return true;
}

/* --- stacks --- */

static struct lock id_lock;
static struct arena {
  char *from, *end; /* what is left of it */
  size_t bytes;     /* of each stack */
} arenas[ARENAS];
static uint32_t next_arena;

/* After mlockall(MCL_FUTURE), which makes memory of all that is mapped. */
static bool mapped_is_memory(void) {
  unsigned char in_core = 0;
  long at = raw_syscall6(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return true;
  raw_syscall3(SYS_mincore, at, PAGE, (long)&in_core);
  raw_syscall2(SYS_munmap, at, PAGE);
  return in_core & 1;
}

/* The least recently begun one makes way: nothing has been in what is left of it. */
static struct arena *begin_arena(size_t bytes) {
  struct arena *a = &arenas[next_arena++ % ARENAS];
  if (a->end != a->from) raw_syscall2(SYS_munmap, (long)a->from, a->end - a->from);
  a->from = a->end = stack_map(bytes * ARENA_STACKS);
  if (a->from) a->end += bytes * ARENA_STACKS;
  a->bytes = bytes;
  return a;
}

/* Most are of a few sizes: many in one mapping, so that vm.max_map_count does not limit their number. */
static char *find_place(size_t bytes) {
  char *at = NULL;
  run_lock(&id_lock);
  struct arena *a = arenas;
  while (a < arenas + ARENAS && (a->bytes != bytes || a->end == a->from)) a++;
  if (a == arenas + ARENAS) a = mapped_is_memory() ? NULL : begin_arena(bytes);
  if (a && a->end != a->from) at = a->end -= bytes; /* from above: the kernel puts the next mapping below */
  run_unlock(&id_lock);
  return at ? at : stack_map(bytes);
}

/* --- numbers --- */

/* Who comes after the first half million keeps its own, and has no CPU clock: from 2^28 on. */
static uint32_t number(uint32_t place, uint32_t life) {
  if (place >= THREAD_ID_PLACES) return THREAD_ID_CLOCKS + place;
  return THREAD_ID_FIRST + life % TID_LIVES * THREAD_ID_PLACES + place;
}

void identity_renumber(struct identity *id) {
  id->tid = number(id->place, id->lives++);
  *word_at(id->self, tid_at) = id->tid;
}

int *identity_tid_address(const struct identity *id) { return (int *)word_at(id->self, tid_at); }

/* --- harvest --- */

static void let_go_of_rseq(void) {
  if (__rseq_size == 0) return;
  struct rseq *area = (struct rseq *)((char *)tp_get() + __rseq_offset);
  raw_syscall4(SYS_rseq, (long)area, __rseq_size < 32 ? 32 : __rseq_size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
  area->cpu_id = (uint32_t)RSEQ_CPU_ID_UNINITIALIZED; /* sched_getcpu asks the kernel then */
}

/* The new thread, all signals but glibc's own blocked.  Nothing below here comes back, and nobody is told until the kernel is off the stack. */
static void *harvested(void *arg) {
  struct identity *id = arg;
  id->tp = tp_get();
  id->self = pthread_self();
  id->top = (void *)(((uintptr_t)__builtin_frame_address(0) - FRAMES_APART) & ~(uintptr_t)63);
  *word_at(id->self, tid_at) = id->tid;
  let_go_of_rseq();
  id->robust = robust_list();
  robust_set_list(NULL);
  sys_sigmask(SYS_SIGSET_ALL);
  setxid_answer(id->self);
  raw_syscall1(SYS_set_tid_address, (long)&id->alive);
  raw_syscall1(SYS_exit, 0);
  __builtin_unreachable();
}

int identity_harvest(struct identity *id, size_t stack, size_t guard) {
  pthread_attr_t attr;
  pthread_t t;
  guard = (guard + PAGE - 1) & ~(size_t)(PAGE - 1);
  stack = (stack + PAGE - 1) & ~(size_t)(PAGE - 1);
  char *at = find_place(guard + stack);
  if (!at) return EAGAIN;
  stack_guard(at, guard);
  id->map = at;
  id->bytes = guard + stack;
  id->guard = guard;
  id->place = atomic_fetch_add_explicit(&nidentities, 1, memory_order_relaxed);
  id->tid = number(id->place, 0);
  id->lives = 0;
  id->worn = false;
  atomic_store_explicit(&id->executable, false, memory_order_relaxed);
  atomic_store_explicit(&id->alive, 1, memory_order_relaxed);
  pthread_attr_init(&attr);
  pthread_attr_setstack(&attr, at + guard, stack);
  uint64_t mask = sys_sigmask(SYS_SIGSET_MOST);
  int r = real_create(&t, &attr, harvested, id);
  sys_sigmask(mask);
  pthread_attr_destroy(&attr);
  if (r != 0) raw_syscall2(SYS_munmap, (long)at, (long)id->bytes);
  return r;
}

void identity_ripe(struct identity *id) {
  /* acquire: pairs with the kernel's store at the end of the thread */
  while (atomic_load_explicit(&id->alive, memory_order_acquire)) sys_futex_wait(&id->alive, 1, SYS_FOREVER, true);
  if (atomic_load_explicit(&executable, memory_order_relaxed)) identity_runs_code(id);
}

void identity_real_tid(struct identity *id, bool real) { *word_at(id->self, tid_at) = real ? sys_gettid() : id->tid; }

pthread_t identity_gone(void *tp) {
  pthread_t t = (pthread_t)((char *)tp + ((char *)pthread_self() - (char *)tp_get()));
  *word_at(t, tid_at) = 0;
  return t;
}

/* --- another life --- */

/*
 * The block of a module that was loaded since this identity last asked for it.  Most have none yet, and get it made from the image when it is first used; but one at a fixed
 * distance from the thread pointer is there, with values of the life before.  glibc's __tls_get_addr may not be asked: it waits for who opens or closes a library, and that one for
 * the lock that dl_iterate_phdr has.
 */
static char *static_block(const struct dl_phdr_info *info) {
  const void *dynamic = NULL;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) dynamic = (const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
  const struct link_map *map = map_tls_at ? _r_debug.r_map : NULL;
  while (map && (const void *)map->l_ld != dynamic) map = map->l_next;
  intptr_t distance = map ? *(const intptr_t *)((const char *)map + map_tls_at) : 0;
  if (distance == 0 || distance == -1) return NULL; /* glibc's: not decided yet, never */
#if defined(__x86_64__)
  return (char *)tp_get() - distance;
#else
  return (char *)tp_get() + distance;
#endif
}

static int fresh_tls(struct dl_phdr_info *info, size_t size, void *arg) {
  if (!atomic_load_explicit(&executable, memory_order_relaxed)) (void)look_for_code(info, size, arg);
  if (info->dlpi_tls_modid == 0) return 0;
  for (int i = 0; i < 3; i++)
    if (info->dlpi_tls_modid == kept_modules[i]) return 0;
  char *data = info->dlpi_tls_data;
  if (!data && !(data = static_block(info))) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
    if (ph->p_type != PT_TLS) continue;
    memcpy(data, (const char *)info->dlpi_addr + ph->p_vaddr, ph->p_filesz);
    memset(data + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
  }
  return 0;
}

bool identity_refresh(struct identity *id) {
  bool was = atomic_load_explicit(&executable, memory_order_relaxed);
  dl_iterate_phdr(id->worn ? fresh_tls : look_for_code, NULL);
  bool is = atomic_load_explicit(&executable, memory_order_relaxed), news = is && !was;
  if (is) identity_runs_code(id); /* another, which has found it, may not have come to this one yet */
  if (!id->worn) {
    id->worn = true;
    return news;
  }
  uselocale(LC_GLOBAL_LOCALE);
  errno = 0;
  return news;
}

void identity_tls_dtors(void) { call_tls_dtors(); }
