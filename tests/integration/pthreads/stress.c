/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that threads share, and much of everything at once: stdio, malloc, and random lives with a fixed seed. */
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include "checks.h"

/* --- stdio --- */

static FILE *file;

static void *try_file(void *arg) {
  int e = ftrylockfile(file);
  if (e == 0) funlockfile(file);
  (void)arg;
  return (void *)(intptr_t)(e != 0);
}
static void *write_once(void *arg) {
  fprintf(file, "%s\n", (char *)arg);
  return NULL;
}
static void file_locks(void) {
  file = tmpfile();
  MUST(file);
  for (int i = 0; i < 3; i++) flockfile(file);
  say("again %d", ftrylockfile(file));
  for (int i = 0; i < 4; i++) {
    say("busy %ld", (long)in_thread(try_file, NULL));
    funlockfile(file);
  }
  say("busy %ld", (long)in_thread(try_file, NULL));
  flockfile(file);
  fputs("first, ", file);
  pthread_t t = start(write_once, "third");
  nap(10);
  fputs("second, ", file);
  funlockfile(file);
  pthread_join(t, NULL);
  char line[64] = "";
  rewind(file);
  say("%s", fgets(line, sizeof line, file));
}

static void *write_lines(void *arg) {
  long n = (long)(intptr_t)arg;
  for (long i = 0; i < 400; i++) {
    if (i % 50 == 0) {
      flockfile(file);
      fprintf(file, "%ld %ld ", n, i);
      sched_yield();
      for (int k = 0; k < 20; k++) putc_unlocked('a' + (int)n, file);
      putc('\n', file);
      funlockfile(file);
    } else {
      fprintf(file, "%ld %ld %.*s\n", n, i, 20, (char[21]){[0 ... 19] = (char)('a' + n)});
    }
    if (i % 100 == 0) nap(1);
  }
  return NULL;
}
static void whole_lines(void) {
  pthread_t t[4];
  char line[128];
  long next[4] = {0}, bad = 0, all = 0;
  file = tmpfile();
  MUST(file);
  for (intptr_t i = 0; i < 4; i++) t[i] = start(write_lines, (void *)i);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  rewind(file);
  while (fgets(line, sizeof line, file)) {
    char *end, *end2;
    long n = strtol(line, &end, 10), i = strtol(end, &end2, 10);
    if (n < 0 || n > 3 || i != next[n] || strlen(end2) != 22 || strspn(end2 + 1, (char[2]){(char)('a' + n), 0}) != 20)
      bad++;
    else
      next[n]++;
    all++;
  }
  say("lines %ld, bad %ld", all, bad);
}

static void *read_lines(void *arg) {
  char line[64];
  long sum = 0;
  (void)arg;
  while (fgets(line, sizeof line, file)) sum += strtol(line, NULL, 10);
  return (void *)sum;
}
static void shared_reading(void) {
  pthread_t t[4];
  long sum = 0;
  int fd[2];
  MUST(pipe(fd) == 0 && (file = fdopen(fd[0], "r")));
  for (int i = 0; i < 4; i++) t[i] = start(read_lines, NULL);
  for (int i = 0; i < 600; i++) {
    MUST(dprintf(fd[1], "%d\n", i) > 0);
    if (i % 100 == 0) nap(1);
  }
  close(fd[1]);
  for (int i = 0; i < 4; i++) sum += join_value(t[i]);
  say("sum %ld", sum);
}

/* --- malloc --- */

#define SLOTS 64
static struct {
  pthread_mutex_t m;
  unsigned char *block;
  size_t size;
} slots[SLOTS];

static unsigned next_random(unsigned *seed) {
  *seed = *seed * 1664525 + 1013904223;
  return *seed >> 8;
}

/* Blocks wander: one fills, another looks and frees. */
static void *swap_blocks(void *arg) {
  unsigned seed = (unsigned)(uintptr_t)arg;
  intptr_t bad = 0;
  for (int i = 0; i < 4000; i++) {
    unsigned r = next_random(&seed), s = r % SLOTS;
    size_t size = 1 + next_random(&seed) % (i % 100 == 0 ? 300000 : 2000);
    unsigned char *fresh = i % 3 == 0 ? calloc(1, size) : malloc(size);
    MUST(fresh);
    if (i % 3 == 0) bad += fresh[size - 1] != 0;
    if (i % 7 == 0) {
      size += 500;
      fresh = realloc(fresh, size); /* NOLINT(bugprone-suspicious-realloc-usage) */
      MUST(fresh);
    }
    memset(fresh, (int)(size & 0xff), size);
    pthread_mutex_lock(&slots[s].m);
    unsigned char *old = slots[s].block;
    size_t old_size = slots[s].size;
    slots[s].block = fresh;
    slots[s].size = size;
    pthread_mutex_unlock(&slots[s].m);
    if (old) bad += old[0] != (old_size & 0xff) || old[old_size - 1] != (old_size & 0xff) || old[old_size / 2] != (old_size & 0xff);
    free(old);
    if (i % 1000 == 0) nap(1);
  }
  return (void *)bad;
}
static void malloc_across_threads(void) {
  for (int i = 0; i < SLOTS; i++) pthread_mutex_init(&slots[i].m, NULL);
  for (int round = 0; round < 2; round++) {
    pthread_t t[4];
    intptr_t bad = 0;
    for (intptr_t i = 0; i < 4; i++) t[i] = start(swap_blocks, (void *)(i + 1));
    for (int i = 0; i < 4; i++) bad += join_value(t[i]);
    say("bad %ld", (long)bad);
  }
}

static void *allocate_and_end(void *arg) {
  char *p = malloc(100);
  MUST(p);
  memset(p, 'x', 100);
  free(malloc(20000));
  (void)arg;
  return p;
}
static void freed_by_another(void) {
  int bad = 0;
  for (int i = 0; i < 300; i++) {
    char *p = (char *)in_thread(allocate_and_end, NULL);
    bad += p[99] != 'x';
    free(p);
  }
  say("bad %d", bad);
}

/* --- random lives --- */

#define LIVES 24
enum kind { SLEEPER, SPINNER, WAITER, LOCKER, POSTED, FORKER, READER, PARENT, KINDS };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static int fds[2];
static pthread_key_t key;
static _Atomic long began, ended, destroyed, handled;
static _Atomic bool stop[LIVES];
static __thread int fresh = 3;

static void on_signal(int sig) {
  (void)sig;
  handled++;
}
static void at_end(void *arg) {
  (void)arg;
  ended++;
}
static void on_destroy(void *arg) {
  MUST(*(int *)arg == 4);
  free(arg);
  destroyed++;
}
static void unlock(void *m) { pthread_mutex_unlock(m); }
static void *do_nothing(void *arg) { return arg; }

static void live(enum kind kind, const _Atomic bool *done) {
  struct timespec at;
  char c;
  int old;
  switch (kind) {
    case SLEEPER:
      usleep(500);
      break;
    case SPINNER:
      for (int i = 0; i < 200 && !*done; i++) pthread_testcancel();
      sched_yield();
      break;
    case WAITER:
      at = in_ms(CLOCK_REALTIME, 3);
      pthread_mutex_lock(&lock);
      pthread_cleanup_push(unlock, &lock);
      pthread_cond_timedwait(&cond, &lock, &at);
      pthread_cleanup_pop(1);
      break;
    case LOCKER:
      pthread_mutex_lock(&lock);
      free(malloc(100));
      pthread_mutex_unlock(&lock);
      pthread_cond_signal(&cond);
      sched_yield();
      pthread_testcancel();
      break;
    case POSTED:
      at = in_ms(CLOCK_REALTIME, 2);
      if (sem_timedwait(&sem, &at) == 0) sem_post(&sem);
      pthread_testcancel(); /* it is not one if it need not wait */
      sched_yield();
      break;
    case FORKER:
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
      pid_t p = fork();
      if (p == 0) _exit(0);
      while (waitpid(p, NULL, 0) < 0 && errno == EINTR) {
      }
      pthread_setcancelstate(old, NULL);
      nap(5);
      break;
    case READER:
      (void)!read(fds[0], &c, 1);
      break;
    default:
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
      in_thread(do_nothing, NULL);
      pthread_setcancelstate(old, NULL);
      pthread_testcancel();
      usleep(100);
  }
}

struct life {
  pthread_t t;
  enum kind kind;
  int at;
};
static void *one_life(void *arg) {
  struct life *l = arg;
  int old;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
  MUST(fresh == 3);
  fresh = 9;
  int *mine = malloc(sizeof *mine);
  MUST(mine);
  *mine = 4;
  pthread_setspecific(key, mine);
  began++;
  pthread_cleanup_push(at_end, NULL);
  pthread_setcancelstate(old, NULL);
  while (!stop[l->at]) live(l->kind, &stop[l->at]);
  pthread_cleanup_pop(1);
  return (void *)1;
}

static void random_lives(unsigned seed) {
  struct life lives[LIVES];
  struct sigaction a = {.sa_handler = on_signal};
  bool alive[LIVES] = {false};
  long created = 0, joined = 0, strange = 0;
  sigaction(SIGUSR1, &a, NULL);
  sem_init(&sem, 0, 0);
  MUST(pipe(fds) == 0 && pthread_key_create(&key, on_destroy) == 0);
  for (int i = 0; i < 500; i++) {
    unsigned r = next_random(&seed), n = next_random(&seed) % LIVES;
    if (!alive[n]) {
      lives[n].kind = (enum kind)(r % KINDS);
      lives[n].at = (int)n;
      stop[n] = false;
      MUST(pthread_create(&lives[n].t, NULL, one_life, &lives[n]) == 0);
      alive[n] = true;
      created++;
      continue;
    }
    switch (r % 8) {
      case 0:
      case 1: /* ends it, one way or the other */
        if (r % 16 < 8 || lives[n].kind == READER) {
          MUST(pthread_cancel(lives[n].t) == 0);
        } else {
          stop[n] = true;
        }
        intptr_t v = join_value(lives[n].t);
        strange += v != 1 && v != -1;
        joined++;
        alive[n] = false;
        break;
      case 2:
      case 3:
        MUST(pthread_kill(lives[n].t, SIGUSR1) == 0);
        break;
      case 4:
        sem_post(&sem);
        pthread_cond_broadcast(&cond);
        break;
      case 5:
        MUST(write(fds[1], "x", 1) == 1);
        break;
      case 6:
        if (r % 5 == 0) nap(1);
        break;
      default:
        sched_yield();
    }
  }
  for (int n = 0; n < LIVES; n++) {
    if (!alive[n]) continue;
    MUST(pthread_cancel(lives[n].t) == 0);
    join_value(lives[n].t);
    joined++;
  }
  say("created %ld, joined %ld, strange %ld", created, joined, strange);
  say("ended %d, destroyed %d", ended == began, destroyed == began);
}
static void random_lives_1(void) { random_lives(1); }
static void random_lives_2(void) { random_lives(20261126); }
static void random_lives_3(void) { random_lives(777); }

/* --- a file that several read at one position --- */

enum { RECORD = 1 << 20, RECORDS = 24, READERS = 6 };
static int shared_fd;

static void *read_records(void *arg) {
  uint32_t *r = malloc(RECORD);
  intptr_t torn = 0;
  (void)arg;
  MUST(r);
  for (ssize_t n; (n = read(shared_fd, r, RECORD)) > 0;)
    for (uint32_t i = 1; i < (uint32_t)n / 4; i++)
      if (r[i] != r[0] + i) {
        torn++;
        break;
      }
  free(r);
  return (void *)torn;
}

/* The first half of each record is in the page cache, the other half is not. */
static void half_cached(void *buf) {
  MUST(fsync(shared_fd) == 0);
  posix_fadvise(shared_fd, 0, 0, POSIX_FADV_DONTNEED);
  posix_fadvise(shared_fd, 0, 0, POSIX_FADV_RANDOM);
  for (off_t i = 0; i < RECORDS; i++) MUST(pread(shared_fd, buf, RECORD / 2, i * RECORD) == RECORD / 2);
  posix_fadvise(shared_fd, 0, 0, POSIX_FADV_NORMAL);
  MUST(lseek(shared_fd, 0, SEEK_SET) == 0);
}

static void shared_position(void) {
  FILE *f = tmpfile();
  uint32_t *buf = malloc(RECORD);
  intptr_t torn = 0;
  MUST(f && buf && (shared_fd = fileno(f)) >= 0);
  for (uint32_t k = 0; k < RECORDS; k++) {
    for (uint32_t i = 0; i < RECORD / 4; i++) buf[i] = k * (RECORD / 4) + i;
    MUST(write(shared_fd, buf, RECORD) == RECORD);
  }
  for (int round = 0; round < 4; round++) {
    pthread_t t[READERS];
    half_cached(buf);
    for (int i = 0; i < READERS; i++) t[i] = start(read_records, NULL);
    for (int i = 0; i < READERS; i++) torn += join_value(t[i]);
  }
  say("torn %ld", (long)torn);
  free(buf);
  fclose(f);
}

const struct check stress_checks[] = {
    CHECK(shared_position),  CHECK(file_locks),     CHECK(whole_lines),    CHECK(shared_reading), CHECK(malloc_across_threads),
    CHECK(freed_by_another), CHECK(random_lives_1), CHECK(random_lives_2), CHECK(random_lives_3), CHECKS_END,
};
