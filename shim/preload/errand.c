/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system and popen spawn inside of libc, with the mask of the thread.  For a light G they do so in a thread of their own: it has the
 * program's mask, and handlers that come meanwhile run on a stack that is made for them.  The G parks.
 *
 * system is a cancellation point, and kills its command when it is cancelled: so its thread is, and the G when that has ended.
 *
 * Rejected: opening the carrier's mask for the call.  A handler might run on the G's small stack, and system takes as long as its command.
 */
#include "preload/errand.h"

#include <pthread.h>
#include <stdlib.h>
#include "core/carrier.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/call.h"
#include "preload/lightio.h"
#include "ration/g.h"
#include "sync/lot.h"
#include "sync/stop.h"

/* From malloc: a handler may leave the wait by siglongjmp, and the thread is still at it. */
struct errand {
  bool done; /* [lot of its address] */
  pthread_t thread;
  const char *command, *mode; /* mode null: system */
  int status, err;
  FILE *f;
};

static void call(void *arg) {
  struct errand *e = arg;
  if (e->mode)
    e->f = popen(e->command, e->mode);
  else
    e->status = system(e->command);
  e->err = errno;
}

static void *run(void *arg) {
  struct errand *e = arg;
  e->status = -1;
  thread_call_to_end(call, e);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  struct lot *lot = lot_lock(&e->done);
  e->done = true;
  struct waiter *w = lot_first(lot, &e->done);
  if (w) lot_remove(lot, w);
  lot_unlock(lot);
  if (w) note_set(&w->note, false);
  return NULL;
}

/* 0, or ECANCELED: the context of lim. */
static int wait_for(struct errand *e, const struct limit *lim) {
  for (;;) {
    struct waiter w = WAITER_INIT(&e->done);
    w.interruptible = true;
    struct lot *lot = lot_lock(&e->done);
    bool done = e->done;
    if (!done) lot_push(lot, &w, false);
    lot_unlock(lot);
    if (done) return 0;
    int r = lot_wait(&w, lim, WAIT_CHILD);
    if (r != -EINTR) return -r;
    stop_notice();
  }
}

enum sent { NOT_SENT, SENT, CANCELLED };

static enum sent attend(struct errand *e) {
  int saved = call_errno();
  if (light_pthread_create(&e->thread, NULL, run, e) != 0) {
    call_set_errno(saved);
    return NOT_SENT;
  }
  struct limit lim = {UINT64_MAX, e->mode ? NULL : free_cancel_context()};
  bool over = wait_for(e, &lim) != 0;
  if (over) {
    lim.ctx = NULL;
    pthread_cancel(e->thread);
    wait_for(e, &lim);
  }
  pthread_detach(e->thread);
  call_set_errno(e->err);
  return over ? CANCELLED : SENT;
}

/* Asynchronous cancellation is not to end a wait in the middle. */
static enum sent send_deferred(struct errand *e) {
  int type;
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  enum sent sent = attend(e);
  pthread_setcanceltype(type, NULL);
  return sent;
}

static bool done_by(const char *command, const char *mode, struct errand *result) {
  if (!light_running() || !signal_carriers_mask()) return false;
  struct errand *e = calloc(1, sizeof *e);
  if (!e) return false;
  e->command = command;
  e->mode = mode;
  enum sent sent = send_deferred(e);
  *result = *e;
  free(e);
  if (sent == CANCELLED) free_testcancel();
  return sent != NOT_SENT;
}

bool errand_system(const char *command, int *status) {
  struct errand result;
  if (!done_by(command, NULL, &result)) return false;
  *status = result.status;
  return true;
}

bool errand_popen(const char *command, const char *mode, FILE **f) {
  struct errand result;
  if (!done_by(command, mode, &result)) return false;
  *f = result.f;
  return true;
}
