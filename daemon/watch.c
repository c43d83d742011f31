// SPDX-License-Identifier: Apache-2.0
/*
 * Loads bpf/watch.bpf.c and keeps its maps: see watch.h for what it offers.
 *
 * A process is known to the BPF programs through two outer maps, keyed by an id
 * that is never used twice (m_maps: its M map; rings: its ring buffer), and each of its threads through
 * task storage that holds the id.  The threads are found by the task iterator
 * `adopt` (one pass visits all, in the kernel), on every kernel the same; threads
 * that are born meanwhile inherit from their parent, or are found by the next pass.
 *
 * An update of an outer map makes the caller wait for RCU, for some 20 ms.  No
 * attach can wait so long, so a worker thread does it, in batches, and keeps some
 * pairs of maps ready that are in the outer maps already and belong to nobody yet:
 *
 *    worker --> JOINING --> LIVE, in `spares` --watch_attach--> LIVE --watch_detach--> LEAVING --worker--> freed
 *    watch_attach (no spare, or another size) --> JOINING --worker--> LIVE
 *                                                    `-- watch_detach: `gone`; the worker makes it LEAVING
 *
 * header.caps is set when it gets LIVE.
 *
 * Lock: watch.lock, over `queue`, `spares`, `stop`, `last_id`, and `stage` and `gone` of each
 * process.  The rest of a watch_proc is constant between attach and the worker's free.
 *
 * Rejected: one map for all processes (a process could write into another's
 * slots); a pidfd for each thread to fill task storage from here (PIDFD_THREAD
 * came with Linux 6.9 only, and a program with 8,000 threads would cost 24,000 system calls).
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "bpf/watch_shared.h"
#include "daemon/util.h"
#include "daemon/watch.h"
#include "proto/m_slot.h"
#include "watch.skel.h"
#include "watch_next.skel.h"

#define ADOPT_PASSES_MAX 64 /* a process that makes threads faster than this is served as far as we got */
#define WORKER_STACK (128 * 1024)
#define BATCH_MAX 256
#define SPARES 8 /* some 75 kB of kernel memory each */

enum stage { JOINING, LIVE, LEAVING };

struct watch_proc {
  struct watch *w;
  struct watch_proc *next; /* in w->queue or w->spares */
  enum stage stage;
  bool gone;  /* detached while it was JOINING */
  bool spare; /* nobody's yet */
  uint64_t id;
  pid_t pid;
  int pidfd;
  uint32_t nslots;
  int map_fd;
  int ring_fd;
};

/* Processes whose outer map entries the worker changes in one go. */
struct batch {
  uint32_t n;
  struct watch_proc *proc[BATCH_MAX];
  uint64_t id[BATCH_MAX];
  int map_fd[BATCH_MAX];
  int ring_fd[BATCH_MAX];
};

struct watch {
  struct watch_bpf *bpf;
  uint32_t caps;
  uint64_t last_id;
  pthread_t worker;
  bool worker_runs;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  struct watch_proc *queue;
  struct watch_proc *spares;
  unsigned nspares; /* those that are JOINING too */
  bool spare_taken;
  bool stop;
  struct batch joining, leaving; /* the worker's own */
};

/* ---- why it can't be loaded ---- */

/* What libbpf says while we load: its first complaint, and the verifier's last word.  Only used inside watch_open. */
static struct {
  char complaint[160];
  char verdict[160];
} said;

/* Copies the last line of the verifier's log that isn't its statistics. */
static void keep_verdict(const char *log) {
  const char *last = NULL;
  size_t len = 0;
  for (const char *line = log; *line;) {
    size_t n = strcspn(line, "\n");
    if (n && strncmp(line, "processed ", 10) != 0 && strncmp(line, "-- ", 3) != 0 && strncmp(line, "libbpf:", 7) != 0) {
      last = line;
      len = n;
    }
    line += n + (line[n] == '\n');
  }
  if (last) snprintf(said.verdict, sizeof(said.verdict), "%.*s", (int)len, last);
}

static int on_libbpf_says(enum libbpf_print_level level, const char *format, va_list args) {
  if (level != LIBBPF_WARN) return 0;
  _cleanup_free_ char *text = NULL;
  if (vasprintf(&text, format, args) < 0) {
    text = NULL;
    return 0;
  }
  if (strstr(text, "BEGIN PROG LOAD LOG")) {
    keep_verdict(text);
  } else if (!said.complaint[0]) {
    const char *t = strncmp(text, "libbpf: ", 8) == 0 ? text + 8 : text;
    snprintf(said.complaint, sizeof(said.complaint), "%.*s", (int)strcspn(t, "\n"), t);
  }
  return 0;
}

static bool kernel_older_than(int major, int minor) {
  struct utsname u;
  int have_major, have_minor;
  if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &have_major, &have_minor) != 2) return false;
  return have_major < major || (have_major == major && have_minor < minor);
}

/* One line: the likely cause in words where we know one, then what libbpf and the verifier said. */
static int explain(int r, const char *doing, char *err, size_t errsize) {
  const char *cause = "";
  if (kernel_older_than(6, 1))
    cause = ": needs Linux 6.1 or newer";
  else if (r == -EPERM)
    cause = ": needs CAP_BPF and CAP_PERFMON";
  else if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
    cause = ": this kernel offers no BTF (CONFIG_DEBUG_INFO_BTF)";
  snprintf(err, errsize, "BPF: cannot %s: %s%s%s%s%s%s", doing, strerror(-r), cause, said.complaint[0] ? "; libbpf: " : "", said.complaint,
           said.verdict[0] ? "; verifier: " : "", said.verdict);
  return r;
}

/* ---- load and attach the programs ---- */

/* Looks a name up in the kernel's BTF.  That it is not there is an answer, not a complaint to remember. */
static bool kernel_has(const char *name, enum bpf_attach_type type) {
  libbpf_print_fn_t print = libbpf_set_print(NULL);
  bool has = libbpf_find_vmlinux_btf_id(name, type) > 0;
  libbpf_set_print(print);
  return has;
}

/* x86 has the tracepoints of its interrupts only. */
static bool has_tracepoint(const char *name) { return kernel_has(name, BPF_TRACE_RAW_TP); }

/*
 * The programs, with or without the signal to the next thread.  Both are made of one source, so the two skeletons have the same members in
 * the same order: one type does for both.
 */
static struct watch_bpf *open_programs(bool next) {
  _Static_assert(sizeof(struct watch_bpf) == sizeof(struct watch_next_bpf), "skeletons of the same source");
  struct watch_bpf *b = next ? (struct watch_bpf *)watch_next_bpf__open() : watch_bpf__open();
  __asm__ volatile("" ::: "memory"); /* what was written through the one type is read through the other */
  return b;
}

static int load_programs(struct watch *w, bool with_ipi) {
  bool next = kernel_has("bpf_send_signal_task", BPF_TRACE_FENTRY);
  w->bpf = open_programs(next);
  if (!w->bpf) return -errno;
  bpf_program__set_autoattach(w->bpf->progs.adopt, false);
  bool tick = has_tracepoint("hrtimer_expire_entry");
  bool ipi = with_ipi && has_tracepoint("call_function_single_entry") && has_tracepoint("call_function_entry");
  bpf_program__set_autoload(w->bpf->progs.on_tick, tick);
  bpf_program__set_autoload(w->bpf->progs.on_ipi_one, ipi);
  bpf_program__set_autoload(w->bpf->progs.on_ipi_many, ipi);
  int r = watch_bpf__load(w->bpf);
  if (r < 0) {
    watch_bpf__destroy(w->bpf);
    w->bpf = NULL;
    return r;
  }
  w->caps = M_CAP_LIVE | M_CAP_HIDDEN | (tick ? M_CAP_TICK | M_CAP_ALARM : 0) | (ipi ? M_CAP_IPI : 0) | (next ? M_CAP_NEXT : 0);
  return 0;
}

/* Further down. */
static void *worker_main(void *arg);
static void free_list(struct watch_proc *p);

static int start_worker(struct watch *w) {
  pthread_attr_t attr;
  sigset_t all, old;
  int r = pthread_attr_init(&attr);
  if (r) return -r;
  pthread_attr_setstacksize(&attr, WORKER_STACK);
  sigfillset(&all); /* the daemon's signals are for its main thread */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  r = pthread_create(&w->worker, &attr, worker_main, w);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (r) return -r;
  pthread_setname_np(w->worker, "watch");
  w->worker_runs = true;
  return 0;
}

static void watch_closep(struct watch **w) { watch_close(*w); }

int watch_open(struct watch **ret, char *err, size_t errsize) {
  _cleanup_(watch_closep) struct watch *w = calloc(1, sizeof(*w));
  memset(&said, 0, sizeof(said));
  if (!w) return explain(-ENOMEM, "start", err, errsize);
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->wake, NULL);
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL); /* also lifts RLIMIT_MEMLOCK where the kernel still counts by it */
  libbpf_set_print(on_libbpf_says);

  int r = load_programs(w, true);
  if (r < 0 && r != -EPERM) {
    /* The interrupt tracepoints are an extra: without them before giving up. */
    int again = load_programs(w, false);
    if (again == 0) r = 0;
  }
  if (r < 0) return explain(r, "load", err, errsize);
  r = watch_bpf__attach(w->bpf);
  if (r < 0) return explain(r, "attach", err, errsize);
  r = start_worker(w);
  if (r < 0) return explain(r, "start", err, errsize);
  *ret = w;
  w = NULL;
  return 0;
}

void watch_close(struct watch *w) {
  if (!w) return;
  if (w->worker_runs) {
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->worker, NULL);
  }
  free_list(w->spares);
  free_list(w->queue); /* the outer maps, which name them still, go now as well */
  watch_bpf__destroy(w->bpf);
  pthread_cond_destroy(&w->wake);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

uint32_t watch_caps(const struct watch *w) { return w->caps; }

/* ---- a pair of maps ---- */

static void free_proc(struct watch_proc *p) {
  if (p->map_fd >= 0) close(p->map_fd);
  if (p->ring_fd >= 0) close(p->ring_fd);
  if (p->pidfd >= 0) close(p->pidfd);
  free(p);
}

static void free_procp(struct watch_proc **p) {
  if (*p) free_proc(*p);
}

static void free_list(struct watch_proc *p) {
  while (p) {
    struct watch_proc *next = p->next;
    free_proc(p);
    p = next;
  }
}

static uint32_t round_slots(uint32_t want) {
  uint32_t n = M_SLOTS_MIN;
  while (n < want && n < M_SLOTS_MAX) n *= 2;
  return n;
}

/* One page: some 170 events, which sysmon reads as they come. */
static uint32_t ring_size(void) { return (uint32_t)sysconf(_SC_PAGESIZE); }

/* Its M map, with the header filled in but for caps, and its ring. */
static int make_maps(struct watch_proc *p, uint32_t size) {
  LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
  p->map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "ration_m", sizeof(uint32_t), M_ELEM_SIZE, M_MAP_ELEMS(p->nslots), &opts);
  if (p->map_fd < 0) return -errno;
  p->ring_fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ration_ring", 0, 0, size, NULL);
  if (p->ring_fd < 0) return -errno;
  struct m_header header = {.nslots = p->nslots};
  uint32_t first = 0;
  if (bpf_map_update_elem(p->map_fd, &first, &header, BPF_ANY) < 0) return -errno;
  return 0;
}

static uint64_t new_id(struct watch *w) {
  pthread_mutex_lock(&w->lock);
  uint64_t id = ++w->last_id;
  pthread_mutex_unlock(&w->lock);
  return id;
}

/* A watch_proc of nobody yet, with its maps. */
static int new_proc(struct watch *w, uint32_t nslots, struct watch_proc **ret) {
  _cleanup_(free_procp) struct watch_proc *p = calloc(1, sizeof(*p));
  if (!p) return -ENOMEM;
  *p = (struct watch_proc){.w = w, .stage = JOINING, .id = new_id(w), .nslots = nslots, .pidfd = -1, .map_fd = -1, .ring_fd = -1};
  int r = make_maps(p, ring_size());
  if (r < 0) return r;
  *ret = p;
  p = NULL;
  return 0;
}

/* ---- the worker: outer maps ---- */

/* The process is in the maps: tell it.  The other fields of the header are its own by now, so only this word is written. */
static void publish_caps(struct watch_proc *p) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  struct m_header *h = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, p->map_fd, 0);
  if (h == MAP_FAILED) return; /* it goes on polling */
  /* Pairs with the shim's acquire load: what it marks from now on is seen. */
  __atomic_store_n(&h->caps, p->w->caps, __ATOMIC_RELEASE);
  munmap(h, page);
}

static void batch_add(struct batch *b, struct watch_proc *p) {
  b->proc[b->n] = p;
  b->id[b->n] = p->id;
  b->map_fd[b->n] = p->map_fd;
  b->ring_fd[b->n] = p->ring_fd;
  b->n++;
}

/* One system call, and one wait for RCU, for all; or one each on a kernel that knows no batches here. */
static int insert_all(int outer, const uint64_t *ids, const int *fds, uint32_t n) {
  uint32_t done = n;
  if (n == 0) return 0;
  if (n > 1 && bpf_map_update_batch(outer, ids, fds, &done, NULL) == 0) return 0;
  int r = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (bpf_map_update_elem(outer, &ids[i], &fds[i], BPF_ANY) < 0) r = -errno;
  }
  return r;
}

static void delete_all(int outer, const uint64_t *ids, uint32_t n) {
  uint32_t done = n;
  if (n == 0) return;
  if (n > 1 && bpf_map_delete_batch(outer, ids, &done, NULL) == 0) return;
  for (uint32_t i = 0; i < n; i++) bpf_map_delete_elem(outer, &ids[i]);
}

/* Rings first: a process whose M map is found has its ring already. */
static int join(struct watch *w, struct batch *b) {
  int r = insert_all(bpf_map__fd(w->bpf->maps.rings), b->id, b->ring_fd, b->n);
  if (r == 0) r = insert_all(bpf_map__fd(w->bpf->maps.m_maps), b->id, b->map_fd, b->n);
  for (uint32_t i = 0; i < b->n && r == 0; i++) publish_caps(b->proc[i]);
  return r;
}

static void leave(struct watch *w, struct batch *b) {
  delete_all(bpf_map__fd(w->bpf->maps.m_maps), b->id, b->n);
  delete_all(bpf_map__fd(w->bpf->maps.rings), b->id, b->n);
  for (uint32_t i = 0; i < b->n; i++) free_proc(b->proc[i]);
}

/* Lock held. */
static void enqueue(struct watch *w, struct watch_proc *p) {
  p->next = w->queue;
  w->queue = p;
}

/* Lock held.  Takes what is to do out of the queue, by kind, at most a batch of each; processes that left before they joined are freed. */
static void take_work(struct watch *w) {
  struct batch *joining = &w->joining, *leaving = &w->leaving;
  joining->n = leaving->n = 0;
  while (w->queue && joining->n < BATCH_MAX && leaving->n < BATCH_MAX) {
    struct watch_proc *p = w->queue;
    w->queue = p->next;
    if (p->stage == LEAVING)
      batch_add(leaving, p);
    else if (p->gone)
      free_proc(p);
    else
      batch_add(joining, p);
  }
}

/* Lock held.  Queues as many new spares as are missing; the maps are made without the lock. */
static void make_spares(struct watch *w) {
  while (w->nspares < SPARES && !w->stop) {
    struct watch_proc *p;
    w->nspares++;
    pthread_mutex_unlock(&w->lock);
    int r = new_proc(w, M_SLOTS_DEFAULT, &p);
    pthread_mutex_lock(&w->lock);
    if (r < 0) { /* short of memory or descriptors: try again when the next spare is taken */
      w->nspares--;
      return;
    }
    p->spare = true;
    enqueue(w, p);
  }
}

/*
 * Lock held.  What has joined is live, or leaves at once if its process is gone
 * already.  A process for which there was no room (r < 0) goes on polling; a spare would be no use.
 */
static void joined(struct watch *w, struct watch_proc *p, int r) {
  p->stage = LIVE;
  if (p->gone || (p->spare && r < 0)) {
    w->nspares -= p->spare;
    p->stage = LEAVING;
    enqueue(w, p);
  } else if (p->spare) {
    p->next = w->spares;
    w->spares = p;
  }
}

static void *worker_main(void *arg) {
  struct watch *w = arg;
  pthread_mutex_lock(&w->lock);
  while (!w->stop) {
    make_spares(w);
    take_work(w);
    pthread_mutex_unlock(&w->lock);
    int r = join(w, &w->joining);
    leave(w, &w->leaving);
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->joining.n; i++) joined(w, w->joining.proc[i], r);
    while (!w->queue && !w->stop && !w->spare_taken) pthread_cond_wait(&w->wake, &w->lock);
    w->spare_taken = false;
  }
  pthread_mutex_unlock(&w->lock);
  return NULL;
}

/* ---- a process comes and goes ---- */

/* Runs the iterator once over the threads of the process that pidfd names. */
static int adopt_pass(struct bpf_link *link) {
  _cleanup_close_ int fd = bpf_iter_create(bpf_link__fd(link));
  if (fd < 0) return -errno;
  char nothing[64];
  for (;;) {
    ssize_t n = read(fd, nothing, sizeof(nothing));
    if (n == 0) return 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) return -errno;
  }
}

static void link_destroyp(struct bpf_link **link) { bpf_link__destroy(*link); }

/* Gives all threads of the process, which are this user's (0: anybody's), task storage for p->id, or (release) takes it from them. */
static int adopt_threads(struct watch_proc *p, uid_t uid, bool release) {
  union bpf_iter_link_info info = {.task.pid_fd = (uint32_t)p->pidfd};
  LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));
  struct watch_bpf *bpf = p->w->bpf;
  _cleanup_(link_destroyp) struct bpf_link *link = bpf_program__attach_iter(bpf->progs.adopt, &opts);
  if (!link) return -errno;
  struct watch_adopt *job = &bpf->bss->adopt_job;
  *job = (struct watch_adopt){.task = {.proc = p->id, .nslots = p->nslots}, .uid = uid, .release = release};
  for (int pass = 0; pass < ADOPT_PASSES_MAX; pass++) {
    job->seen = job->adopted = 0;
    int r = adopt_pass(link);
    if (r < 0 || release) return r;
    if (job->seen == 0) return -ESRCH;
    if (job->refused) return -EPERM;
    if (job->adopted == 0) return 0; /* everybody was there already */
    /* A process of one thread can only have got more by that thread, which is ours now. */
    if (pass == 0 && job->seen == 1 && job->adopted == 1) return 0;
  }
  return 0;
}

static void set_nprocs(struct watch *w, int by) {
  /* Only this thread writes it.  A program that still sees 0 misses a switch that it would not have known what to do with. */
  __atomic_store_n((uint32_t *)&w->bpf->bss->nprocs, w->bpf->bss->nprocs + (uint32_t)by, __ATOMIC_RELEASE);
}

/* A spare of that size, or NULL. */
static struct watch_proc *take_spare(struct watch *w, uint32_t nslots) {
  if (nslots != M_SLOTS_DEFAULT) return NULL;
  pthread_mutex_lock(&w->lock);
  struct watch_proc *p = w->spares;
  if (p) {
    w->spares = p->next;
    w->nspares--;
    p->spare = false;
    w->spare_taken = true;
    pthread_cond_signal(&w->wake);
  }
  pthread_mutex_unlock(&w->lock);
  return p;
}

/* Hands it to the worker, to be put into the outer maps or out of them. */
static void join_or_leave(struct watch_proc *p, bool leaving) {
  struct watch *w = p->w;
  pthread_mutex_lock(&w->lock);
  if (leaving && p->stage == JOINING) {
    p->gone = true; /* the worker has it, or will */
  } else if (leaving || p->stage == JOINING) {
    if (leaving) p->stage = LEAVING;
    enqueue(w, p);
    pthread_cond_signal(&w->wake);
  }
  pthread_mutex_unlock(&w->lock);
}

int watch_attach(struct watch *w, const struct watch_peer *who, uint32_t m_slots, int *map_fd, int *ring_fd, uint32_t *size,
                 struct watch_proc **ret) {
  if (w->bpf->bss->nprocs >= WATCH_PROCS_MAX / 2) return -ENOSPC; /* half: those that leave are still in the maps for a while */
  _cleanup_close_ int own = fcntl(who->pidfd, F_DUPFD_CLOEXEC, 3);
  if (own < 0) return -errno;
  uint32_t nslots = round_slots(m_slots);
  struct watch_proc *p = take_spare(w, nslots);
  int r = p ? 0 : new_proc(w, nslots, &p);
  if (r < 0) return r;
  p->pid = who->pid;
  p->pidfd = util_take_fd(&own);
  set_nprocs(w, 1); /* before the threads are adopted, so that their children inherit from then on */
  r = adopt_threads(p, who->uid, false);
  join_or_leave(p, false);
  if (r < 0) {
    watch_detach(p);
    return r;
  }
  *map_fd = p->map_fd;
  *ring_fd = p->ring_fd;
  *size = ring_size();
  *ret = p;
  return 0;
}

uint32_t watch_proc_slots(const struct watch_proc *p) { return p->nslots; }

void watch_detach(struct watch_proc *p) {
  if (!p) return;
  (void)adopt_threads(p, 0, true); /* fails if it is dead, and then there is nothing to take back */
  set_nprocs(p->w, -1);
  join_or_leave(p, true);
}

/* ---- Ms by message ---- */

/* The tid (as this daemon's /proc has it) behind a pidfd: -EBADF if it is no pidfd, -ESRCH if the task is gone. */
static int tid_of_pidfd(int pidfd) {
  char path[64], line[128];
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  if (!f) return errno == ENOENT ? -EBADF : -errno;
  while (fgets(line, sizeof(line), f)) {
    int tid;
    if (sscanf(line, "Pid: %d", &tid) == 1) return tid > 0 ? tid : -ESRCH;
  }
  return -EBADF;
}

/* The pidfds are asked again after the look at /proc: if both tasks still live, their numbers meant them all the time. */
static int check_thread(const struct watch_proc *p, int thread_pidfd) {
  char path[64];
  int tid = tid_of_pidfd(thread_pidfd);
  if (tid < 0) return tid;
  snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)p->pid, tid);
  bool in = access(path, F_OK) == 0;
  if (tid_of_pidfd(thread_pidfd) != tid || tid_of_pidfd(p->pidfd) != p->pid) return -ESRCH;
  return in ? 0 : -EPERM;
}

static int set_elem(struct watch_proc *p, int thread_pidfd, uint32_t elem) {
  int r = check_thread(p, thread_pidfd);
  if (r < 0) return r;
  int tasks = bpf_map__fd(p->w->bpf->maps.tasks);
  struct watch_task task;
  /* Who attached has storage, and hands it on to each new thread; who lost it runs another program by now. */
  if (bpf_map_lookup_elem(tasks, &thread_pidfd, &task) < 0 || task.proc != p->id) return -ESRCH;
  task.elem = elem;
  return bpf_map_update_elem(tasks, &thread_pidfd, &task, BPF_EXIST) < 0 ? errno == ENOENT ? -ESRCH : -errno : 0;
}

int watch_register_m(struct watch_proc *p, int thread_pidfd, uint32_t slot) {
  return slot < p->nslots ? set_elem(p, thread_pidfd, slot + 1) : -ERANGE;
}

int watch_unregister_m(struct watch_proc *p, int thread_pidfd) { return set_elem(p, thread_pidfd, 0); }
