/* SPDX-License-Identifier: Apache-2.0 */
/* What each thread has of its own: keys, thread-local variables and their destructors, errno, locale, libc's buffers; and pthread_once. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dlfcn.h>
#include <limits.h>
#include <locale.h>
#include <netdb.h>
#include <resolv.h>
#include <sched.h>
#include <stdatomic.h>
#include <wchar.h>
#include <setjmp.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;

/* --- keys --- */

static pthread_key_t keys[PTHREAD_KEYS_MAX + 1];
static _Atomic long destroyed, destroyed_sum;

static void add_up(void *arg) {
  destroyed++;
  destroyed_sum += (long)arg;
}

static void *set_five(void *arg) {
  long n = (long)arg, good = 0;
  for (int k = 0; k < 5; k++) good += pthread_getspecific(keys[k]) == NULL;
  for (long k = 0; k < 5; k++) MUST(pthread_setspecific(keys[k], (void *)(n * 10 + k)) == 0);
  gate_pass(&gate);
  for (long k = 0; k < 5; k++) good += pthread_getspecific(keys[k]) == (void *)(n * 10 + k);
  return (void *)good;
}

static void key_values(void) {
  pthread_t t[20];
  long good = 0;
  for (int k = 0; k < 5; k++) MUST(pthread_key_create(&keys[k], k == 4 ? NULL : add_up) == 0);
  for (int round = 0; round < 3; round++) {
    gate.open = false;
    gate.arrived = 0;
    for (long i = 0; i < 20; i++) t[i] = start(set_five, (void *)(i + 1));
    gate_await(&gate, 20);
    gate_open(&gate);
    for (int i = 0; i < 20; i++) good += join_value(t[i]);
  }
  say("good %ld, destroyed %ld, sum %ld", good, destroyed, destroyed_sum);
  say("main's %d", pthread_getspecific(keys[0]) == NULL);
}

static void say_and_look(void *arg) { say("destructor %ld, now null %d", (long)arg, pthread_getspecific(keys[(long)arg]) == NULL); }

static void *set_in_disorder(void *arg) {
  static const long order[] = {3, 40, 0, 2, 60, 1};
  for (int i = 0; i < 6; i++) pthread_setspecific(keys[order[i]], (void *)order[i]);
  pthread_setspecific(keys[2], NULL);
  return arg;
}

static void key_order(void) {
  for (int k = 0; k < 64; k++) pthread_key_create(&keys[k], say_and_look);
  in_thread(set_in_disorder, NULL);
}

static _Atomic int rounds[2];
static void set_again(void *arg) {
  long k = (long)arg - 1;
  rounds[k]++;
  pthread_setspecific(keys[k], arg);
}
static void set_other(void *arg) {
  say("sets the other");
  if ((long)arg == 9) pthread_setspecific(keys[3], (void *)1);
}
static void say_other(void *arg) { say("the other %ld", (long)arg); }

static void *set_forever(void *arg) {
  pthread_setspecific(keys[0], (void *)1);
  pthread_setspecific(keys[1], (void *)2);
  pthread_setspecific(keys[2], (void *)9);
  return arg;
}

static void key_rounds(void) {
  pthread_key_create(&keys[0], set_again);
  pthread_key_create(&keys[1], set_again);
  pthread_key_create(&keys[2], set_other);
  pthread_key_create(&keys[3], say_other);
  in_thread(set_forever, NULL);
  say("rounds %d %d of %d", rounds[0], rounds[1], PTHREAD_DESTRUCTOR_ITERATIONS);
}

static void *keep_deleted(void *arg) {
  pthread_setspecific(keys[0], (void *)1);
  gate_pass(&gate);
  say("deleted: get %ld, set %s", (long)pthread_getspecific(keys[0]), err(pthread_setspecific(keys[0], (void *)2)));
  return arg;
}

static void *look_at_new(void *arg) {
  pthread_setspecific(keys[0], (void *)1);
  gate_pass(&gate);
  gate_pass((struct gate *)arg);
  return pthread_getspecific(keys[1]);
}

static void key_delete(void) {
  static struct gate second = GATE_CLOSED;
  pthread_key_create(&keys[0], say_other);
  pthread_t a = start(keep_deleted, NULL);
  gate_await(&gate, 1);
  SAY_ERR("delete", pthread_key_delete(keys[0]));
  SAY_ERR("again", pthread_key_delete(keys[0]));
  SAY_ERR("no such", pthread_key_delete(PTHREAD_KEYS_MAX + 7));
  SAY_ERR("set no such", pthread_setspecific(PTHREAD_KEYS_MAX + 7, NULL));
  gate_open(&gate);
  pthread_join(a, NULL);
  /* A new key in the old one's place begins null for all. */
  gate.open = false;
  gate.arrived = 0;
  pthread_key_create(&keys[0], say_other);
  a = start(look_at_new, &second);
  gate_await(&gate, 1);
  gate_open(&gate);
  gate_await(&second, 1);
  pthread_key_delete(keys[0]);
  pthread_key_create(&keys[1], say_other);
  say("same place %d", keys[0] == keys[1]);
  gate_open(&second);
  say("value in it %ld", (long)join_value(a));
}

static void *set_all(void *arg) {
  long n = (long)arg, good = 0;
  for (long k = 0; k < n; k++) MUST(pthread_setspecific(keys[k], (void *)(k + 1)) == 0);
  for (long k = 0; k < n; k++) good += pthread_getspecific(keys[k]) == (void *)(k + 1);
  return (void *)good;
}

static void *exit_with_six(void *arg) {
  (void)arg;
  pthread_exit((void *)6);
}
static void *wait_for_cancel(void *arg) {
  for (;;) nap(1000);
  return arg;
}

/* The program may have them all, and its threads still end as they should. */
static void key_limit(void) {
  int n = 0, e = 0;
  while (n <= PTHREAD_KEYS_MAX && (e = pthread_key_create(&keys[n], add_up)) == 0) n++;
  say("%d keys, then %s", n, err(e));
  say("good %ld", (long)in_thread(set_all, (void *)(long)n));
  say("destroyed %ld, sum %ld", destroyed, destroyed_sum);
  SAY_ERR("delete", pthread_key_delete(keys[5]));
  SAY_ERR("create", pthread_key_create(&keys[5], add_up));
  for (int i = 0; i < 8; i++) {
    pthread_t t = start(wait_for_cancel, NULL);
    say("exit %ld", (long)in_thread(exit_with_six, NULL));
    pthread_cancel(t);
    say("cancelled %d", (void *)join_value(t) == PTHREAD_CANCELED);
  }
  pthread_exit(NULL);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *return_arg(void *arg) { return arg; }

/* A destructor is the program's code: it may do what it likes. */
static void busy_destructor(void *arg) {
  pthread_mutex_lock(&lock);
  nap(2);
  pthread_mutex_unlock(&lock);
  free(malloc(1000));
  MUST(in_thread(return_arg, arg) == (intptr_t)arg);
  destroyed++;
}
static void *set_first(void *arg) {
  pthread_setspecific(keys[0], arg);
  return NULL;
}
static void *set_and_exit(void *arg) {
  pthread_setspecific(keys[0], arg);
  pthread_exit((void *)6);
}
static void *set_and_wait(void *arg) {
  pthread_setspecific(keys[0], arg);
  for (;;) nap(1000);
  return NULL;
}

static void key_destructors_block(void) {
  pthread_t t[6];
  pthread_key_create(&keys[0], busy_destructor);
  for (int i = 0; i < 6; i++) t[i] = start(i < 2 ? set_first : i < 4 ? set_and_exit : set_and_wait, (void *)7);
  for (int i = 4; i < 6; i++) pthread_cancel(t[i]);
  for (int i = 0; i < 6; i++) say("%ld", (long)join_value(t[i]));
  say("destroyed %ld", destroyed >= 4 ? 4L : destroyed); /* a thread may be cancelled before it sets */
}

/* --- destructors of thread_local objects --- */

int __cxa_thread_atexit_impl(void (*fn)(void *), void *obj, void *dso); /* what a C++ compiler calls */
extern void *__dso_handle;

static void say_object(void *arg) { say("object %ld", (long)arg); }
static void say_object_and_more(void *arg) {
  say("object %ld registers another", (long)arg);
  __cxa_thread_atexit_impl(say_object, (void *)((long)arg + 100), &__dso_handle);
}
static void say_key(void *arg) { say("key %ld", (long)arg); }

static void *with_objects(void *arg) {
  pthread_setspecific(keys[0], (void *)50);
  __cxa_thread_atexit_impl(say_object, (void *)1, &__dso_handle);
  __cxa_thread_atexit_impl(say_object_and_more, (void *)2, &__dso_handle);
  __cxa_thread_atexit_impl(say_object, (void *)3, &__dso_handle);
  if (arg == (void *)1) pthread_exit(NULL);
  if (arg == (void *)2) {
    pthread_cancel(pthread_self());
    pthread_testcancel();
  }
  if (arg == (void *)3) {
    pthread_setspecific(keys[0], NULL);
    exit(3);
  }
  return arg;
}

static void say_at_exit(void) { say("at exit"); }

static void object_destructors(void) {
  pthread_key_create(&keys[0], say_key);
  for (long i = 0; i < 3; i++) {
    say("way %ld", i);
    in_thread(with_objects, (void *)i);
  }
  say("exit");
  atexit(say_at_exit);
  in_thread(with_objects, (void *)3);
}

static void main_objects(void) {
  __cxa_thread_atexit_impl(say_object, (void *)1, &__dso_handle);
  pthread_key_create(&keys[0], say_key);
  pthread_setspecific(keys[0], (void *)2);
  atexit(say_at_exit);
  exit(4);
}

/* --- thread-local variables --- */

static __thread int answer = 42;
static __thread char zeros[2 << 10];
static __thread _Alignas(64) char aligned[64] = "as written";
static __thread struct {
  short a;
  double b;
  const char *c;
} mixed = {1, 2.5, "three"};

static int fresh(void) {
  int bad = answer != 42;
  for (unsigned i = 0; i < sizeof zeros; i++) bad += zeros[i] != 0;
  bad += strcmp(aligned, "as written") != 0 || (uintptr_t)aligned % 64 != 0;
  bad += mixed.a != 1 || mixed.b != 2.5 || strcmp(mixed.c, "three") != 0;
  return bad;
}

static void spoil(int n) {
  answer = n;
  memset(zeros, n | 1, sizeof zeros);
  memset(aligned, 'x', sizeof aligned - 1);
  mixed.a = (short)n;
  mixed.b = n;
  mixed.c = NULL;
}

static int spoilt(int n) {
  int bad = answer != n;
  for (unsigned i = 0; i < sizeof zeros; i++) bad += zeros[i] != (char)(n | 1);
  return bad + (mixed.b != n);
}

static void *use_locals(void *arg) {
  int n = (int)(intptr_t)arg, bad = fresh();
  spoil(n);
  if (n % 3 == 0) nap(1);
  if (n % 3 == 1) sched_yield();
  bad += spoilt(n);
  return (void *)(intptr_t)bad;
}

static void locals_fresh(void) {
  long bad = 0;
  for (intptr_t i = 0; i < 200; i++) bad += in_thread(use_locals, (void *)i);
  say("one after the other: bad %ld", bad);
  for (int round = 0; round < 5; round++) {
    pthread_t t[40];
    for (intptr_t i = 0; i < 40; i++) t[i] = start(use_locals, (void *)i);
    for (int i = 0; i < 40; i++) bad += join_value(t[i]);
  }
  say("beside each other: bad %ld", bad);
  say("main's %d", fresh());
}

static void *keep_locals(void *arg) {
  int n = (int)(intptr_t)arg, bad = fresh();
  spoil(n);
  for (int i = 0; i < 20; i++) {
    if (i % 4 == 0) nap(1);
    if (i % 4 == 1) sched_yield();
    if (i % 4 == 2) {
      pthread_mutex_lock(&lock);
      sched_yield();
      pthread_mutex_unlock(&lock);
    }
    bad += spoilt(n);
  }
  return (void *)(intptr_t)bad;
}

static void locals_kept(void) {
  pthread_t t[30];
  long bad = 0;
  for (intptr_t i = 0; i < 30; i++) t[i] = start(keep_locals, (void *)i);
  for (int i = 0; i < 30; i++) bad += join_value(t[i]);
  say("bad %ld", bad);
}

static void *address_of_local(void *arg) {
  gate_pass(&gate);
  (void)arg;
  return &answer;
}

static void locals_apart(void) {
  pthread_t t[10];
  intptr_t at[11];
  int alike = 0;
  for (int i = 0; i < 10; i++) t[i] = start(address_of_local, NULL);
  gate_await(&gate, 10);
  gate_open(&gate);
  for (int i = 0; i < 10; i++) at[i] = join_value(t[i]);
  at[10] = (intptr_t)&answer;
  for (int i = 0; i < 11; i++)
    for (int j = 0; j < i; j++) alike += at[i] == at[j];
  say("main's answer %d, alike %d", answer, alike);
}

/* --- errno --- */

static void *keep_errno(void *arg) {
  int n = (int)(intptr_t)arg, bad = errno != 0;
  for (int i = 0; i < 30; i++) {
    errno = 100 + n;
    if (i % 3 == 0) sched_yield();
    if (i % 3 == 1) nap(1);
    if (i % 3 == 2) {
      pthread_mutex_lock(&lock);
      pthread_mutex_unlock(&lock);
    }
    bad += errno != 100 + n;
    char c;
    if (read(-1, &c, 1) != -1 || errno != EBADF) bad++;
  }
  return (void *)(intptr_t)bad;
}

static void errno_own(void) {
  pthread_t t[16];
  long bad = 0;
  errno = ENOTTY;
  for (int round = 0; round < 2; round++) {
    for (intptr_t i = 0; i < 16; i++) t[i] = start(keep_errno, (void *)i);
    for (int i = 0; i < 16; i++) bad += join_value(t[i]);
  }
  say("bad %ld", bad);
}

/* --- locale --- */

static void *use_locale(void *arg) {
  locale_t l = arg;
  int at_first = (int)MB_CUR_MAX;
  say("begins with the global one %d", uselocale(NULL) == LC_GLOBAL_LOCALE);
  if (l) uselocale(l);
  gate_pass(&gate);
  nap(2);
  wchar_t wide[8];
  size_t n = mbstowcs(wide, "\xc3\xa4\xc3\xb6", 8);
  say("locale %d: mb_cur_max %d, then %d; length %zd", l != NULL, at_first, (int)MB_CUR_MAX, (ssize_t)n);
  if (l) uselocale(LC_GLOBAL_LOCALE);
  return NULL;
}

static void locale_own(void) {
  locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
  say("there is one %d", l != NULL);
  pthread_t a = start(use_locale, l);
  gate_await(&gate, 1);
  gate_open(&gate);
  pthread_join(a, NULL);
  in_thread(use_locale, NULL); /* maybe in what the first left */
  say("main: mb_cur_max %d", (int)MB_CUR_MAX);
  freelocale(l);
  in_thread(use_locale, NULL);
}

static void *leave_locale(void *arg) {
  uselocale(arg);
  return NULL;
}
static void locale_left(void) {
  locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
  gate_open(&gate);
  for (int i = 0; i < 10; i++) in_thread(leave_locale, l);
  for (int i = 0; i < 3; i++) in_thread(use_locale, NULL);
}

static void *ctype_counts(void *arg) {
  int n = 0;
  (void)arg;
  for (int i = 0; i < 128; i++) n += isalpha(i) != 0;
  return (void *)(intptr_t)(n + 1000 * (strtol("12", NULL, 10) == 12));
}
static void ctype_tables(void) {
  for (int i = 0; i < 3; i++) say("%ld", (long)in_thread(ctype_counts, NULL));
}

/* --- libc's buffers --- */

static void *use_buffers(void *arg) {
  int n = (int)(intptr_t)arg;
  const char *e = strerror(9000 + n), *s = strsignal(900 + n);
  char want[64], with[64];
  int bad = dlerror() != NULL;
  snprintf(want, sizeof want, "/no/such/%d", n);
  bad += dlopen(want, RTLD_NOW) != NULL;
  struct in_addr a = {htonl(0x0a000000u + (unsigned)n)};
  const char *dotted = inet_ntoa(a);
  h_errno = n;
  gate_pass(&gate);
  snprintf(with, sizeof with, "Unknown error %d", 9000 + n);
  bad += strcmp(e, with) != 0;
  snprintf(with, sizeof with, "Unknown signal %d", 900 + n);
  bad += strcmp(s, with) != 0;
  snprintf(with, sizeof with, "10.0.0.%d", n);
  bad += strcmp(dotted, with) != 0;
  const char *d = dlerror();
  bad += d == NULL || strstr(d, want) == NULL;
  bad += dlerror() != NULL;
  bad += h_errno != n;
  return (void *)(intptr_t)bad;
}

static void buffers_own(void) {
  pthread_t t[8];
  for (int round = 0; round < 2; round++) {
    gate.open = false;
    gate.arrived = 0;
    for (intptr_t i = 0; i < 8; i++) t[i] = start(use_buffers, (void *)(i + 1));
    gate_await(&gate, 8);
    gate_open(&gate);
    for (int i = 0; i < 8; i++) say("bad %ld", (long)join_value(t[i]));
  }
}

static void *use_resolver(void *arg) {
  int n = (int)(intptr_t)arg;
  MUST(res_init() == 0);
  _res.retry = 3 + n;
  gate_pass(&gate);
  return (void *)(intptr_t)(_res.retry == 3 + n);
}
static void resolver_own(void) {
  pthread_t a = start(use_resolver, (void *)5);
  pthread_t b = start(use_resolver, (void *)9);
  gate_await(&gate, 2);
  gate_open(&gate);
  say("own %ld %ld", (long)join_value(a), (long)join_value(b));
}

/* --- once --- */

static pthread_once_t once = PTHREAD_ONCE_INIT, other_once = PTHREAD_ONCE_INIT;
static _Atomic int initialised;
static void init_slowly(void) {
  nap(20);
  initialised++;
}
static void *call_once_slowly(void *arg) {
  (void)arg;
  int e = pthread_once(&once, init_slowly);
  return (void *)(intptr_t)(e == 0 && initialised == 1);
}

static void once_for_all(void) {
  pthread_t t[10];
  int good = 0;
  for (int i = 0; i < 10; i++) t[i] = start(call_once_slowly, NULL);
  for (int i = 0; i < 10; i++) good += (int)join_value(t[i]);
  SAY_ERR("again", pthread_once(&once, init_slowly));
  say("good %d, initialised %d", good, initialised);
}

static void init_never_ends(void) {
  if (++initialised > 1) return;
  for (;;) nap(1000);
}
static void *call_once_blocked(void *arg) {
  (void)arg;
  return (void *)(intptr_t)(100 + pthread_once(&once, init_never_ends));
}

static void once_cancelled(void) {
  pthread_t first = start(call_once_blocked, NULL);
  UNTIL(initialised == 1);
  pthread_t t[3];
  for (int i = 0; i < 3; i++) t[i] = start(call_once_blocked, NULL);
  nap(20);
  pthread_cancel(first);
  say("first %ld", (long)join_value(first));
  for (int i = 0; i < 3; i++) say("%ld", (long)join_value(t[i]));
  say("initialised %d", initialised);
}

static void init_exits(void) {
  if (++initialised == 1) pthread_exit((void *)5);
}
static void *call_once_exits(void *arg) {
  (void)arg;
  pthread_once(&once, init_exits);
  return (void *)6;
}
static void once_exited(void) {
  for (int i = 0; i < 3; i++) say("%ld", (long)in_thread(call_once_exits, NULL));
  say("initialised %d", initialised);
}

static sigjmp_buf out_of_once;
static void init_jumps(void) {
  if (++initialised == 1) siglongjmp(out_of_once, 1);
}
static void *call_once_jumps(void *arg) {
  if (sigsetjmp(out_of_once, 1) == 0) pthread_once(&once, init_jumps);
  SAY_ERR("once", pthread_once(&once, init_jumps));
  return arg;
}
static void once_jumped(void) {
  in_thread(call_once_jumps, NULL);
  say("initialised %d", initialised);
}

static void init_inner(void) { say("inner"); }
static void init_outer(void) {
  pthread_once(&other_once, init_inner);
  say("outer");
}
static void once_nested(void) {
  pthread_once(&once, init_outer);
  pthread_once(&other_once, init_inner);
  pthread_once(&once, init_outer);
}

static void init_at_gate(void) {
  initialised++;
  gate_pass(&gate);
}
static void *call_once_gate(void *arg) {
  pthread_once(&once, init_at_gate);
  return arg;
}
static void init_quickly(void) { say("by the child"); }

/* A child that is forked while another thread is inside begins anew. */
static void once_and_fork(void) {
  pthread_t t = start(call_once_gate, NULL);
  gate_await(&gate, 1);
  pid_t p = fork();
  if (p == 0) {
    pthread_once(&once, init_quickly);
    _exit(7);
  }
  say_wait("child", p);
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_once(&once, init_at_gate);
  say("initialised %d", initialised);
}

/* --- a library loaded while there are threads --- */

static int (*library_add)(int);
static int (*library_zeros)(void);
static int zeros_at_first;

static void *use_library(void *arg) {
  gate_pass(arg);
  int a = library_add(1);
  nap(1);
  int b = library_add(10), z = library_zeros();
  return (void *)(intptr_t)(a == 8 && b == 18 && z == zeros_at_first - 2);
}

static void load_library(const char *suffix, int zeros_there) {
  char path[4096];
  pthread_t t[10];
  snprintf(path, sizeof path, "%s%s.so", self_path, suffix);
  zeros_at_first = zeros_there;
  for (int round = 0; round < 2; round++) {
    gate.open = false;
    gate.arrived = 0;
    for (int i = 0; i < 10; i++) t[i] = start(use_library, &gate);
    gate_await(&gate, 10);
    void *lib = dlopen(path, RTLD_NOW);
    if (!lib) say("%s", dlerror());
    MUST(lib);
    *(void **)&library_add = dlsym(lib, "tls_library_add");
    *(void **)&library_zeros = dlsym(lib, "tls_library_zeros");
    MUST(library_add && library_zeros);
    gate_open(&gate);
    for (int i = 0; i < 10; i++) say("good %ld", (long)join_value(t[i]));
    say("new thread: good %ld", (long)in_thread(use_library, &gate));
    say("main's %d", library_add(0));
    SAY_CALL("close", dlclose(lib));
  }
}
static void library_with_locals(void) { load_library("_tls", 64 << 10); }
static void library_with_fixed_locals(void) { load_library("_tls_fixed", 64); }

/* It makes the stacks of all threads executable, also of those that come later. */
static int (*run_code)(void);
static void *runs_code(void *arg) {
  if (arg) gate_pass(arg);
  return (void *)(intptr_t)run_code();
}
static void library_with_code_on_stacks(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s_code.so", self_path);
  pthread_t t = start(runs_code, &gate);
  gate_await(&gate, 1);
  void *lib = dlopen(path, RTLD_NOW);
  if (!lib) say("%s", dlerror());
  MUST(lib);
  *(void **)&run_code = dlsym(lib, "code_on_stack");
  MUST(run_code);
  say("main %d", run_code());
  say("new thread %ld", (long)in_thread(runs_code, NULL));
  gate_open(&gate);
  say("old thread %ld", (long)join_value(t));
  say("new thread %ld", (long)in_thread(runs_code, NULL));
}

/* A library that finds libc's functions before the program's, and a thread outside of it. */
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t said_cond = PTHREAD_COND_INITIALIZER;
static bool said;
static void *hears(void *arg) {
  pthread_mutex_lock(&said_lock);
  gate_pass(arg);
  while (!said) pthread_cond_wait(&said_cond, &said_lock);
  pthread_mutex_unlock(&said_lock);
  return arg;
}
static void library_bound_deeply(void) {
  char path[4096];
  void (*tell)(pthread_mutex_t *, pthread_cond_t *, bool *) = NULL;
  snprintf(path, sizeof path, "%s_tls.so", self_path);
  void *lib = dlopen(path, RTLD_NOW | RTLD_DEEPBIND);
  MUST(lib);
  *(void **)&tell = dlsym(lib, "tls_library_say");
  MUST(tell);
  gate.open = true;
  pthread_t t = start(hears, &gate);
  gate_await(&gate, 1);
  tell(&said_lock, &said_cond, &said);
  say("heard %d", join_value(t) == (intptr_t)&gate);
}

/* Libraries are opened and closed while threads begin. */
static _Atomic int opened;
static void *opens_and_closes(void *arg) {
  int n = 0;
  for (int i = 0; i < 300; i++) {
    void *lib = dlopen(arg, RTLD_NOW);
    int (*add)(int) = NULL;
    if (lib) *(void **)&add = dlsym(lib, "tls_library_add");
    if (add) n += add(0) >= 0;
    if (lib) dlclose(lib);
  }
  opened++;
  return (void *)(intptr_t)n;
}
static void *just_ends(void *arg) { return arg; }
static void libraries_come_and_go(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s_tls.so", self_path);
  pthread_t a = start(opens_and_closes, path), b = start(opens_and_closes, path);
  while (opened < 2) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) t[i] = start(just_ends, NULL);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  }
  long of_a = (long)join_value(a), of_b = (long)join_value(b);
  say("used %ld %ld", of_a, of_b);
}

const struct check local_checks[] = {
    CHECK(key_values),
    CHECK(key_order),
    CHECK(key_rounds),
    CHECK(key_delete),
    CHECK(key_limit),
    CHECK(key_destructors_block),
    CHECK(object_destructors),
    CHECK(main_objects),
    CHECK(locals_fresh),
    CHECK(locals_kept),
    CHECK(locals_apart),
    CHECK(errno_own),
    CHECK(locale_own),
    CHECK(locale_left),
    CHECK(ctype_tables),
    CHECK(buffers_own),
    CHECK(resolver_own),
    CHECK(once_for_all),
    CHECK(once_cancelled),
    CHECK(once_exited),
    CHECK(once_jumped),
    CHECK(once_nested),
    CHECK(once_and_fork),
    CHECK(library_with_locals),
    CHECK(library_with_fixed_locals),
    CHECK(library_with_code_on_stacks),
    CHECK(library_bound_deeply),
    CHECK(libraries_come_and_go),
    CHECKS_END,
};
