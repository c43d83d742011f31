/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_WATCH_RIG_H
#define RATION_TESTS_WATCH_RIG_H
/*
 * A process under the real BPF programs, for test_watch and the benchmark: plays
 * the daemon (watch.h) and the shim (the M map) in one process.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "daemon/watch.h"
#include "proto/m_slot.h"

#define RIG_LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define RIG_STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)

struct rig {
  struct watch *w;
  struct watch_proc *p;
  pid_t pid;
  int pidfd, map_fd, ring_fd;
  uint32_t n, ring_size;
  struct m_header *h;
  struct m_slot *slot;        /* slot[i] is M slot i */
  struct m_tids_entry *table; /* n * 2 of them */
  size_t bytes;
};

static inline uint64_t rig_clock(clockid_t id) {
  struct timespec ts;
  clock_gettime(id, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
static inline uint64_t rig_now(void) { return rig_clock(CLOCK_MONOTONIC); }
static inline void rig_sleep_ms(unsigned ms) { usleep(ms * 1000); }

/* Waits until the condition holds; gives up, and evaluates to false, only after a time that no healthy machine needs. */
#define RIG_WAIT(cond)                                       \
  __extension__({                                            \
    uint64_t rig_end_ = rig_now() + 15000000000u;            \
    while (!(cond) && rig_now() < rig_end_) rig_sleep_ms(1); \
    !!(cond);                                                \
  })

static inline pid_t rig_gettid(void) { return (pid_t)syscall(SYS_gettid); }
static inline int rig_pidfd(pid_t pid, unsigned flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
#define RIG_PIDFD_THREAD ((unsigned)O_EXCL) /* fcntl.h */

/* Attaches a process and maps its M map.  Returns 0 or -errno. */
static inline int rig_attach(struct rig *r, pid_t pid, uint32_t slots) {
  r->pid = pid;
  r->pidfd = rig_pidfd(pid, 0);
  if (r->pidfd < 0) return -errno;
  const struct watch_peer who = {.pid = pid, .pidfd = r->pidfd};
  int e = watch_attach(r->w, &who, slots, &r->map_fd, &r->ring_fd, &r->ring_size, &r->p);
  if (e < 0) return e;
  r->n = watch_proc_slots(r->p);
  r->bytes = (size_t)M_MAP_ELEMS(r->n) * M_ELEM_SIZE;
  char *base = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->map_fd, 0);
  if (base == MAP_FAILED) return -errno;
  r->h = (struct m_header *)base;
  r->slot = (struct m_slot *)(base + M_ELEM_SIZE);
  r->table = (struct m_tids_entry *)(base + (size_t)(1 + r->n) * M_ELEM_SIZE);
  return 0;
}

static inline bool rig_live(struct rig *r) { return RIG_WAIT(RIG_LOAD(r->h->caps) & M_CAP_LIVE); }

static inline void rig_detach(struct rig *r) {
  munmap(r->h, r->bytes);
  watch_detach(r->p);
  close(r->pidfd);
}

/* What the shim does when a thread becomes an M. */
static inline void rig_add_m(struct rig *r, uint32_t tid, uint32_t slot) {
  RIG_STORE(r->slot[slot].tid, tid);
  uint32_t h = M_TIDS_HASH(tid, r->n);
  for (uint32_t i = 0; i < M_TIDS_PROBE; i++) {
    struct m_tids_entry *e = &r->table[(h + i) & (r->n * 2 - 1)];
    if (e->tid != 0 && e->tid != M_TID_GONE) continue;
    e->slot = slot;
    RIG_STORE(e->tid, tid);
    return;
  }
  abort();
}

static inline void rig_del_m(struct rig *r, uint32_t tid, uint32_t slot) {
  for (uint32_t i = 0; i < r->n * 2; i++) {
    if (r->table[i].tid == tid) RIG_STORE(r->table[i].tid, M_TID_GONE);
  }
  memset(&r->slot[slot], 0, sizeof(r->slot[slot]));
}

/* Pins a thread (0: the caller) to one CPU. */
static inline void rig_pin(pid_t tid, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(tid, sizeof(set), &set);
}

/* The ring's events, read as the shim does: straight from its mapping. */
struct rig_ring {
  uint64_t *consumer, *producer;
  char *data;
  uint32_t size;
};

static inline int rig_ring_open(struct rig_ring *rr, int fd, uint32_t size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  rr->consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char *ro = mmap(NULL, page + 2 * (size_t)size, PROT_READ, MAP_SHARED, fd, (off_t)page);
  if (rr->consumer == MAP_FAILED || ro == MAP_FAILED) return -errno;
  rr->producer = (uint64_t *)ro;
  rr->data = ro + page;
  rr->size = size;
  return 0;
}

/* The next event, or false. */
static inline bool rig_ring_next(struct rig_ring *rr, struct m_event *ev) {
  uint64_t at = *rr->consumer;
  if (!rr->data || at >= RIG_LOAD(*rr->producer)) return false;
  uint32_t *len = (uint32_t *)(rr->data + (at & (rr->size - 1)));
  uint32_t l = RIG_LOAD(*len);
  if (l & (1u << 31)) return false; /* being written */
  memcpy(ev, (char *)len + 8, sizeof(*ev));
  RIG_STORE(*rr->consumer, at + ((8 + (l & ~(3u << 30)) + 7) & ~7u));
  return true;
}

#endif
