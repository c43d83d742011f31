/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that sleep on owner bells.  See waker.h.
 *
 * Each shard is one thread with up to SHARD_BELLS bells, made when the shards
 * there are full.  The event loop changes a shard's list under its lock and bumps `ctl`, the futex
 * that the thread waits on together with the bells.  User-space reads of a bell
 * happen under the lock only; the kernel may look at a bell that was just unmapped,
 * for which it returns EFAULT, and the thread takes the new list.
 *
 * Locks: shard.lock, never two at a time, never held while sleeping.
 *
 * Without futex_waitv (Linux < 5.16) the thread looks once a second.
 */
#include "waker.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include "util.h"

#define SHARD_BELLS 127u /* FUTEX_WAITV_MAX less one for ctl */

struct shard_bell {
  _Atomic uint32_t *bell;
  uint32_t value;
  bool rang;
};

struct shard {
  struct shard *next;
  struct waker *waker;
  pthread_t thread;
  pthread_mutex_t lock;
  _Atomic uint32_t ctl;
  bool stop; /* under lock */
  uint32_t n;
  struct shard_bell bells[SHARD_BELLS];
};

struct waker {
  int fd;
  struct shard *shards;
};

static void shard_kick(struct shard *s) {
  atomic_fetch_add_explicit(&s->ctl, 1, memory_order_release); /* pairs with the acquire in shard_prepare */
  syscall(SYS_futex, &s->ctl, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void waker_signal(const struct waker *w) {
  uint64_t one = 1;
  ssize_t r;
  do r = write(w->fd, &one, sizeof(one));
  while (r < 0 && errno == EINTR);
}

/* Fills in what to wait for.  Tells the event loop about bells that rang already.  Returns how many, 0 to stop. */
static uint32_t shard_prepare(struct shard *s, struct futex_waitv *v) {
  bool rang = false;
  uint32_t n = 0;
  pthread_mutex_lock(&s->lock);
  v[n++] = (struct futex_waitv){.val = atomic_load_explicit(&s->ctl, memory_order_acquire), /* pairs with shard_kick */
                                .uaddr = (uintptr_t)&s->ctl,
                                .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG};
  for (uint32_t i = 0; i < s->n; i++) {
    struct shard_bell *b = &s->bells[i];
    if (b->rang) continue;
    if (atomic_load_explicit(b->bell, memory_order_acquire) != b->value) { /* pairs with the member's add */
      b->rang = rang = true;
      continue;
    }
    v[n++] = (struct futex_waitv){.val = b->value, .uaddr = (uintptr_t)b->bell, .flags = FUTEX_32};
  }
  if (s->stop) n = 0;
  pthread_mutex_unlock(&s->lock);
  if (rang) waker_signal(s->waker);
  return n;
}

static void *shard_main(void *arg) {
  struct shard *s = arg;
  struct futex_waitv v[SHARD_BELLS + 1];
  for (;;) {
    uint32_t n = shard_prepare(s, v);
    if (n == 0) return NULL;
    long r = syscall(SYS_futex_waitv, v, n, 0, NULL, 0);
    if (r >= 0 || errno != ENOSYS) continue;
    struct timespec second = {.tv_sec = 1};
    syscall(SYS_futex, &s->ctl, FUTEX_WAIT_PRIVATE, (uint32_t)v[0].val, n > 1 ? &second : NULL, NULL, 0);
  }
}

int waker_open(struct waker **ret) {
  struct waker *w = calloc(1, sizeof(*w));
  if (!w) return -ENOMEM;
  w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (w->fd < 0) {
    int e = errno;
    free(w);
    return -e;
  }
  *ret = w;
  return 0;
}

int waker_fd(const struct waker *w) { return w->fd; }

void waker_close(struct waker *w) {
  if (!w) return;
  for (struct shard *s = w->shards, *next; s; s = next) {
    next = s->next;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_mutex_unlock(&s->lock);
    shard_kick(s);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    free(s);
  }
  close(w->fd);
  free(w);
}

static int shard_start(struct waker *w) {
  struct shard *s = calloc(1, sizeof(*s));
  if (!s) return -ENOMEM;
  s->waker = w;
  pthread_mutex_init(&s->lock, NULL);
  pthread_attr_t attr;
  sigset_t all, old;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 64 * 1024);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the event loop's */
  int r = pthread_create(&s->thread, &attr, shard_main, s);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (r) {
    pthread_mutex_destroy(&s->lock);
    free(s);
    return -r;
  }
  s->next = w->shards;
  w->shards = s;
  return 0;
}

static bool shard_add(struct shard *s, _Atomic uint32_t *bell, uint32_t value) {
  pthread_mutex_lock(&s->lock);
  bool fits = s->n < SHARD_BELLS;
  if (fits) s->bells[s->n++] = (struct shard_bell){.bell = bell, .value = value};
  pthread_mutex_unlock(&s->lock);
  if (fits) shard_kick(s);
  return fits;
}

int waker_add(struct waker *w, _Atomic uint32_t *bell, uint32_t value) {
  for (struct shard *s = w->shards; s; s = s->next) {
    if (shard_add(s, bell, value)) return 0;
  }
  int r = shard_start(w);
  return r < 0 ? r : shard_add(w->shards, bell, value) ? 0 : -ENOSPC;
}

void waker_remove(struct waker *w, _Atomic uint32_t *bell) {
  for (struct shard *s = w->shards; s; s = s->next) {
    bool found = false;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->n && !found; i++) {
      if (s->bells[i].bell != bell) continue;
      s->bells[i] = s->bells[--s->n];
      found = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (found) {
      shard_kick(s);
      return;
    }
  }
}
