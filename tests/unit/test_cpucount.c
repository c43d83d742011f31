/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrappers that count CPUs, in front of a machine of our own: 64 CPUs, this
 * process may run on 4 to 11.  The functions behind the wrappers are replaced where real.h keeps them.
 */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/place.h"
#include "free/free.h"
#include "preload/clock.h"
#include "preload/cpucount.h"
#include "preload/tid.h"
#include "preload/wire.h"
#include "preload/cpulive.h"
#include "preload/real.h"

#define CPUS 64
static unsigned opinion;        /* of the core */
static struct cpus self, other; /* masks of this thread (and its children's), and of all else */
static int cpu_now;

unsigned cpulive_ncpus(void) { return opinion; }

bool free_mode;
void free_wire(enum free_wire why) { (void)why; }
void wire_for_affinity(pthread_t t) { (void)t; }
pid_t tid_to_set(pid_t tid) { return tid; }
pid_t tid_kernels(pid_t tid, enum tid_use use) {
  (void)use;
  return tid;
}
pid_t wire_affinity_of(pthread_t t) {
  (void)t;
  return -1;
}

uint32_t clock_tid_of(pthread_t t) {
  (void)t;
  return 0;
}
void place_sets(uint32_t tid) { (void)tid; }
bool place_hides(uint32_t tid) { return (void)tid, false; }

static struct cpus *of(pid_t pid) { return pid == 0 || pid == getpid() ? &self : &other; }

static int fake_get(pid_t pid, size_t size, cpu_set_t *mask) {
  if (size < CPUS / 8) return errno = EINVAL, -1;
  cpus_to_mask(of(pid), mask, size);
  return 0;
}

static int fake_set(pid_t pid, size_t size, const cpu_set_t *mask) {
  struct cpus c, all = {{~0ul}};
  cpus_from_mask(&c, mask, size);
  c.bits[0] &= all.bits[0];
  memset(c.bits + 1, 0, sizeof c - sizeof *c.bits);
  if (cpus_count(&c) == 0) return errno = EINVAL, -1;
  *of(pid) = c;
  return 0;
}

static int fake_thread_get(pthread_t t, size_t size, cpu_set_t *mask) {
  return fake_get(pthread_equal(t, pthread_self()) ? 0 : 1, size, mask);
}
static int fake_thread_set(pthread_t t, size_t size, const cpu_set_t *mask) {
  return fake_set(pthread_equal(t, pthread_self()) ? 0 : 1, size, mask);
}
static long (*real_sysconf)(int);
static long fake_sysconf(int name) { return name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF ? CPUS : real_sysconf(name); }
static int fake_nprocs(void) { return CPUS; }
static int fake_getcpu(void) { return cpu_now; }

#define STAND_IN(name, func)                \
  do {                                      \
    extern struct real_sym real_sym_##name; \
    real_sym_##name.fn = (void *)(func);    \
  } while (0)

static void machine(unsigned n) {
  STAND_IN(sched_getaffinity, fake_get);
  STAND_IN(sched_setaffinity, fake_set);
  STAND_IN(pthread_getaffinity_np, fake_thread_get);
  STAND_IN(pthread_setaffinity_np, fake_thread_set);
  extern struct real_sym real_sym_sysconf;
  if (!real_sysconf) real_sysconf = (long (*)(int))real_sym_sysconf.fn;
  STAND_IN(sysconf, fake_sysconf);
  STAND_IN(get_nprocs, fake_nprocs);
  STAND_IN(get_nprocs_conf, fake_nprocs);
  STAND_IN(sched_getcpu, fake_getcpu);
  self = other = (struct cpus){{0xff0}};
  opinion = n;
}

static unsigned long my_mask(void) {
  cpu_set_t m;
  ck_assert_int_eq(sched_getaffinity(0, sizeof m, &m), 0);
  return *(unsigned long *)&m;
}

static void set_mask(unsigned long bits) {
  cpu_set_t m;
  CPU_ZERO(&m);
  *(unsigned long *)&m = bits;
  ck_assert_int_eq(sched_setaffinity(0, sizeof m, &m), 0);
}

static void all_say(int n, unsigned long mask) {
  cpu_set_t m;
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_ONLN), n);
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_CONF), n);
  ck_assert_int_eq(get_nprocs(), n);
  ck_assert_int_eq(get_nprocs_conf(), n);
  ck_assert_uint_eq(my_mask(), mask);
  ck_assert_int_eq(pthread_getaffinity_np(pthread_self(), sizeof m, &m), 0);
  ck_assert_uint_eq(*(unsigned long *)&m, mask);
}

START_TEST(all_ways_give_one_count) {
  machine(3);
  all_say(3, 0x70);
  ck_assert_int_eq(sysconf(_SC_PAGESIZE), getpagesize());
}
END_TEST

START_TEST(without_opinion_all_is_real) {
  machine(0);
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_ONLN), CPUS);
  ck_assert_int_eq(get_nprocs_conf(), CPUS);
  ck_assert_uint_eq(my_mask(), 0xff0);
  cpu_now = 63;
  ck_assert_int_eq(sched_getcpu(), 63);
}
END_TEST

START_TEST(count_is_never_above_the_mask_of_the_start) {
  machine(20);
  all_say(8, 0xff0);
}
END_TEST

START_TEST(quota_change_shows_at_the_next_call) {
  machine(2);
  all_say(2, 0x30);
  opinion = 5;
  all_say(5, 0x1f0);
  opinion = 1;
  all_say(1, 0x10);
}
END_TEST

START_TEST(cpuset_change_shows_at_the_next_call) {
  machine(2);
  all_say(2, 0x30);
  self.bits[0] = 0xc00;
  all_say(2, 0xc00);
  self.bits[0] = 0x8000;
  all_say(1, 0x8000);
}
END_TEST

START_TEST(own_mask_is_shown_as_it_is) {
  machine(2);
  set_mask(0xf00);
  ck_assert_uint_eq(my_mask(), 0xf00);
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_ONLN), 2);
  /* Others of this process were not pinned. */
  cpu_set_t m;
  ck_assert_int_eq(pthread_getaffinity_np((pthread_t)1, sizeof m, &m), 0);
  ck_assert_uint_eq(*(unsigned long *)&m, 0x30);
}
END_TEST

START_TEST(mask_that_fails_to_be_set_changes_nothing) {
  machine(2);
  cpu_set_t none;
  CPU_ZERO(&none);
  errno = 0;
  ck_assert_int_eq(sched_setaffinity(0, sizeof none, &none), -1);
  ck_assert_int_eq(errno, EINVAL);
  all_say(2, 0x30);
}
END_TEST

START_TEST(shown_mask_that_is_set_again_means_all) {
  machine(2);
  unsigned long saved = my_mask();
  set_mask(0x800);
  ck_assert_uint_eq(my_mask(), 0x800);
  set_mask(saved);
  ck_assert_uint_eq(self.bits[0], 0xff0);
  all_say(2, 0x30);
  opinion = 4;
  all_say(4, 0xf0);
  cpu_set_t m;
  CPU_ZERO(&m);
  *(unsigned long *)&m = 0xf0;
  ck_assert_int_eq(pthread_setaffinity_np(pthread_self(), sizeof m, &m), 0);
  ck_assert_uint_eq(self.bits[0], 0xff0);
}
END_TEST

START_TEST(mask_in_a_thread_attribute_is_noted) {
  machine(2);
  pthread_attr_t attr;
  cpu_set_t m, back;
  pthread_attr_init(&attr);
  CPU_ZERO(&m);
  CPU_SET(9, &m);
  ck_assert_int_eq(pthread_attr_setaffinity_np(&attr, sizeof m, &m), 0);
  ck_assert_int_eq(pthread_attr_getaffinity_np(&attr, sizeof back, &back), 0);
  ck_assert(CPU_EQUAL(&m, &back));
  self.bits[0] = 0x200; /* as pthread_create does inside libc */
  ck_assert_uint_eq(my_mask(), 0x200);
  self.bits[0] = 0xff0;
  ck_assert_uint_eq(my_mask(), 0x30);
  /* What we showed comes back as shown, and is all. */
  CPU_ZERO(&m);
  CPU_SET(4, &m), CPU_SET(5, &m);
  ck_assert_int_eq(pthread_attr_setaffinity_np(&attr, sizeof m, &m), 0);
  ck_assert_int_eq(pthread_attr_getaffinity_np(&attr, sizeof back, &back), 0);
  ck_assert(CPU_EQUAL(&m, &back));
  pthread_attr_destroy(&attr);
}
END_TEST

START_TEST(mask_of_another_process_is_real) {
  machine(2);
  int in[2];
  ck_assert_int_eq(pipe(in), 0);
  pid_t child = fork();
  if (child == 0) {
    char c;
    close(in[1]);
    _exit(read(in[0], &c, 1) == 0 ? 0 : 1);
  }
  cpu_set_t m;
  ck_assert_int_eq(sched_getaffinity(child, sizeof m, &m), 0);
  ck_assert_uint_eq(*(unsigned long *)&m, 0xff0);
  CPU_ZERO(&m);
  CPU_SET(4, &m), CPU_SET(5, &m);
  ck_assert_int_eq(sched_setaffinity(child, sizeof m, &m), 0);
  ck_assert_uint_eq(other.bits[0], 0x30);
  close(in[1]);
  waitpid(child, NULL, 0);
}
END_TEST

START_TEST(mask_by_our_own_pid_is_ours) {
  machine(2);
  cpu_set_t m;
  ck_assert_int_eq(sched_getaffinity(getpid(), sizeof m, &m), 0);
  ck_assert_uint_eq(*(unsigned long *)&m, 0x30);
}
END_TEST

START_TEST(raw_call_is_trimmed_in_what_the_kernel_filled) {
  machine(2);
  unsigned long mask[2] = {0xff0, ~0ul};
  cpucount_trim_mask(0, 8, mask);
  ck_assert_uint_eq(mask[0], 0x30);
  ck_assert_uint_eq(mask[1], ~0ul);
}
END_TEST

START_TEST(mask_that_cannot_be_read_is_left_to_the_kernel) {
  machine(2);
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(p + 4096, 4096);
  struct cpus buf;
  size_t size = 64;
  const void *mask = p + 4096;
  cpucount_before_set(0, &size, &mask, &buf);
  ck_assert_ptr_eq(mask, p + 4096);
  ck_assert_uint_eq(size, 64);
  /* Right up to the end of what can be read. */
  p[4096 - 8] = 0x30;
  mask = p + 4096 - 8;
  size = 8;
  cpucount_before_set(0, &size, &mask, &buf);
  ck_assert_ptr_eq(mask, &buf);
  ck_assert_uint_eq(buf.bits[0], 0xff0);
}
END_TEST

START_TEST(errors_are_those_of_the_real_call) {
  machine(2);
  unsigned char small[4];
  errno = 0;
  ck_assert_int_eq(sched_getaffinity(0, sizeof small, (cpu_set_t *)small), -1);
  ck_assert_int_eq(errno, EINVAL);
  errno = 77;
  all_say(2, 0x30);
  set_mask(0x30);
  ck_assert_int_eq(errno, 77);
}
END_TEST

START_TEST(sched_getcpu_is_an_index_into_what_was_counted) {
  machine(3);
  cpu_now = 40;
  ck_assert_int_eq(sched_getcpu(), 40); /* nobody has counted yet */
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_CONF), 3);
  for (cpu_now = 0; cpu_now < CPUS; cpu_now++) ck_assert_int_lt(sched_getcpu(), 3);
  cpu_now = 1;
  ck_assert_int_eq(sched_getcpu(), 1);
  /* An array made for three stays one for three. */
  opinion = 8;
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_CONF), 8);
  for (cpu_now = 0; cpu_now < CPUS; cpu_now++) ck_assert_int_lt(sched_getcpu(), 3);
}
END_TEST

START_TEST(pinned_thread_finds_itself_on_its_cpu) {
  machine(2);
  ck_assert_int_eq(get_nprocs(), 2);
  set_mask(0x400);
  cpu_now = 10;
  ck_assert_int_eq(sched_getcpu(), 10);
}
END_TEST

START_TEST(user_of_kernel_numbers_gets_real_array_sizes) {
  machine(2);
  ck_assert(!cpucount_kernel_ids());
  cpucount_kernel_ids_used();
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_CONF), CPUS);
  ck_assert_int_eq(get_nprocs_conf(), CPUS);
  ck_assert_int_eq(sysconf(_SC_NPROCESSORS_ONLN), 2);
  ck_assert_uint_eq(my_mask(), 0x30);
  cpu_now = 40;
  ck_assert_int_eq(sched_getcpu(), 40);
}
END_TEST

static void *pinner(void *arg) {
  _Atomic bool *stop = arg;
  struct cpus c = {{0x100}};
  while (!atomic_load_explicit(stop, memory_order_relaxed)) {
    cpu_set_t m;
    memcpy(&m, &c, sizeof m);
    size_t size = sizeof m;
    const void *mask = &m;
    struct cpus buf;
    cpucount_before_set(0, &size, &mask, &buf);
  }
  return NULL;
}

/* With the base being written by one thread, the other threads' answers stay right.  (make tsan) */
START_TEST(first_pinning_does_not_disturb_other_threads) {
  machine(2);
  _Atomic bool stop = false;
  pthread_t t[2];
  for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, pinner, &stop);
  for (int i = 0; i < 2000; i++) {
    ck_assert_int_eq(get_nprocs(), 2);
    ck_assert_uint_eq(my_mask(), 0x30);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
}
END_TEST

UNIT_MAIN("cpucount", all_ways_give_one_count, without_opinion_all_is_real, count_is_never_above_the_mask_of_the_start,
          quota_change_shows_at_the_next_call, cpuset_change_shows_at_the_next_call, own_mask_is_shown_as_it_is,
          mask_that_fails_to_be_set_changes_nothing, shown_mask_that_is_set_again_means_all, mask_in_a_thread_attribute_is_noted,
          mask_of_another_process_is_real, mask_by_our_own_pid_is_ours, raw_call_is_trimmed_in_what_the_kernel_filled,
          mask_that_cannot_be_read_is_left_to_the_kernel, errors_are_those_of_the_real_call, sched_getcpu_is_an_index_into_what_was_counted,
          pinned_thread_finds_itself_on_its_cpu, user_of_kernel_numbers_gets_real_array_sizes, first_pinning_does_not_disturb_other_threads)
