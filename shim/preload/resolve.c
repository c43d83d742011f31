/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and addresses of hosts.  A light G that asks for them will wait, in system calls inside of libc that no wrapper sees: so the P's
 * queue is handed on before, as Go does for resolver calls through cgo.  The G keeps its thread until the call is over (libcall_begin).
 * A thread calls what it ever called.
 *
 * With a context (ration_io_context) getaddrinfo and getnameinfo are made by a G of their own, and the caller parks until that is done or
 * the context ends; then nobody wants the answer any more, and who finds it frees it.  As Go's net does.  The others write into the caller's
 * memory, with pointers in it: they go on to their end.  So do all for a G that has locked its thread, whose _res may be its own.
 */
#include "preload/call.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "preload/lightio.h"
#include "ration/g.h"
#include "sync/lot.h"

#define REAL_RESOLVE(X)                                                                          \
  X(int, getaddrinfo, (const char *, const char *, const struct addrinfo *, struct addrinfo **)) \
  X(int, getnameinfo, (const struct sockaddr *, socklen_t, char *, socklen_t, char *, socklen_t, int))
REAL_DEFINE(REAL_RESOLVE)

#define RESOLVE_CALLS(W)                                                                                                                \
  W(struct hostent *, gethostbyname, (const char *name), (name))                                                                        \
  W(struct hostent *, gethostbyname2, (const char *name, int family), (name, family))                                                   \
  W(struct hostent *, gethostbyaddr, (const void *at, socklen_t len, int family), (at, len, family))                                    \
  W(int, gethostbyname_r, (const char *name, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err),              \
    (name, host, buf, n, found, err))                                                                                                   \
  W(int, gethostbyname2_r, (const char *name, int family, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err), \
    (name, family, host, buf, n, found, err))                                                                                           \
  W(int, gethostbyaddr_r,                                                                                                               \
    (const void *at, socklen_t len, int family, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err),           \
    (at, len, family, host, buf, n, found, err))

#define RESOLVE_REAL(ret, name, params, args) REAL_DEFINE_ONE(ret, name, params)
#define IN_PLACE(name, args)                          \
  ({                                                  \
    libcall_begin(WAIT_IO);                           \
    __typeof__(REAL(name) args) r_ = REAL(name) args; \
    libcall_end();                                    \
    r_;                                               \
  })
#define RESOLVE_WRAPPER(ret, name, params, args) \
  EXPORT ret name params { return light_running() ? IN_PLACE(name, args) : REAL(name) args; }

RESOLVE_CALLS(RESOLVE_REAL)
RESOLVE_CALLS(RESOLVE_WRAPPER)

/* --- by another G --- */

#define LOOKUP_STACK (256u << 10)

/* On the heap: it outlives the caller's wait. */
struct lookup {
  _Atomic uint32_t refs; /* the caller's, and that of the G that looks */
  bool done;             /* [lot of the lookup] */
  int (*call)(struct lookup *l);
  int r, err; /* [before done] */
  /* getaddrinfo */
  char *node, *service;
  struct addrinfo hints, *found;
  bool hinted;
  /* getnameinfo */
  struct sockaddr_storage at;
  socklen_t len, hostlen, servicelen;
  int flags;
  char *host; /* followed by the service's */
};

static void lookup_unref(struct lookup *l) {
  if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1) return; /* pairs with itself: what the other wrote is seen */
  if (l->found) freeaddrinfo(l->found);
  free(l->node);
  free(l->service);
  free(l->host);
  free(l);
}

static int call_getaddrinfo(struct lookup *l) { return REAL(getaddrinfo)(l->node, l->service, l->hinted ? &l->hints : NULL, &l->found); }

static int call_getnameinfo(struct lookup *l) {
  char *service = l->host + l->hostlen;
  return REAL(getnameinfo)((struct sockaddr *)&l->at, l->len, l->hostlen ? l->host : NULL, l->hostlen, l->servicelen ? service : NULL,
                           l->servicelen, l->flags);
}

static void lookup_main(void *arg) {
  struct lookup *l = arg;
  libcall_begin(WAIT_IO);
  l->r = l->call(l);
  l->err = errno;
  libcall_end();
  struct lot *lot = lot_lock(l);
  l->done = true;
  struct waiter *w = lot_first(lot, l);
  if (w) lot_remove(lot, w);
  lot_unlock(lot);
  if (w) note_set(&w->note, false);
  lookup_unref(l);
}

/* 0: it is done; or the error of the context. */
static int lookup_wait(struct lookup *l) {
  struct waiter w = WAITER_INIT(l);
  struct lot *lot = lot_lock(l);
  bool done = l->done;
  if (!done) lot_push(lot, &w, false);
  lot_unlock(lot);
  return done ? 0 : lot_wait(&w, &(struct limit){UINT64_MAX, g_self()->io_ctx}, WAIT_IO);
}

static bool lookup_wanted(void) {
  struct g *g = g_self();
  return g->io_ctx && !g->locked;
}

static struct lookup *lookup_new(int (*call)(struct lookup *)) {
  struct lookup *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  atomic_init(&l->refs, 1);
  l->call = call;
  return l;
}

/* What the call says, or EAI_SYSTEM with the context's error.  EAI_MEMORY where there is none for a G. */
static int lookup_run(struct lookup *l) {
  static const struct ration_attr attr = {.stack = LOOKUP_STACK, .name = "resolver"};
  atomic_store_explicit(&l->refs, 2, memory_order_relaxed); /* nobody else has it yet */
  if (ration_go_attr(lookup_main, l, &attr) < 0) {
    atomic_store_explicit(&l->refs, 1, memory_order_relaxed);
    return EAI_MEMORY;
  }
  int over = lookup_wait(l), r = over ? EAI_SYSTEM : l->r;
  if (r == EAI_SYSTEM) call_set_errno(over ? -over : l->err);
  return r;
}

static bool copied(char **to, const char *from) {
  *to = from ? strdup(from) : NULL;
  return *to || !from;
}

static int bound_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  struct lookup *l = lookup_new(call_getaddrinfo);
  int r = EAI_MEMORY;
  if (!l) return r;
  l->hinted = hints != NULL;
  if (hints) l->hints = *hints;
  if (copied(&l->node, node) && copied(&l->service, service)) r = lookup_run(l);
  if (r == 0) {
    *found = l->found;
    l->found = NULL;
  }
  lookup_unref(l);
  return r;
}

static int bound_getnameinfo(const struct sockaddr *at, socklen_t len, char *host, socklen_t hostlen, char *service, socklen_t servicelen,
                             int flags) {
  struct lookup *l = lookup_new(call_getnameinfo);
  int r = EAI_MEMORY;
  if (!l) return r;
  memcpy(&l->at, at, len);
  l->len = len;
  l->hostlen = host ? hostlen : 0;
  l->servicelen = service ? servicelen : 0;
  l->flags = flags;
  l->host = calloc(1, (size_t)l->hostlen + l->servicelen + 1);
  if (l->host) r = lookup_run(l);
  if (r == 0 && host && hostlen) strcpy(host, l->host);
  if (r == 0 && service && servicelen) strcpy(service, l->host + l->hostlen);
  lookup_unref(l);
  return r;
}

EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  if (!light_running()) return REAL(getaddrinfo)(node, service, hints, found);
  if (call_over()) return EAI_SYSTEM;
  if (lookup_wanted()) return bound_getaddrinfo(node, service, hints, found);
  return IN_PLACE(getaddrinfo, (node, service, hints, found));
}

EXPORT int getnameinfo(const struct sockaddr *at, socklen_t len, char *host, socklen_t hostlen, char *service, socklen_t servicelen,
                       int flags) {
  if (!light_running()) return REAL(getnameinfo)(at, len, host, hostlen, service, servicelen, flags);
  if (call_over()) return EAI_SYSTEM;
  if (lookup_wanted() && len <= sizeof(struct sockaddr_storage))
    return bound_getnameinfo(at, len, host, hostlen, service, servicelen, flags);
  return IN_PLACE(getnameinfo, (at, len, host, hostlen, service, servicelen, flags));
}
