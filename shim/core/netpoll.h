/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_NETPOLL_H
#define RATION_CORE_NETPOLL_H
/* Parking a light G until a descriptor is ready; netpoll.c says how. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct g;
struct entry;

enum netpoll_dir { NETPOLL_READ, NETPOLL_WRITE };

/* The edges that fd has had: to be noted before a look or a try, so that a wait after it misses none. */
uint32_t netpoll_edges(int fd, enum netpoll_dir dir);

/* A wait that others may end.  Zeros at first; one for each wait. */
struct netpoll_call {
  struct g *g;
  _Atomic uint32_t state;
};
/* Ends it, also before it has begun: it returns -ECANCELED, if nothing else was first.  Any thread. */
void netpoll_stop(struct netpoll_call *call);

/*
 * A thread G's call has its file from its first wait to its end, also where the number is closed meanwhile, or made another file's.  It is in the G, not in the call: handlers may leave
 * that at any moment.  So a call knows by its turn whether it is still its own; one that comes later takes it.
 */
struct netpoll_use {
  struct netpoll_use *next, **at; /* those of the same number [its lock]; at null: it is in no list, as nobody closes that number */
  _Atomic(struct entry *) e;      /* [lock of both to change]; null: it has not begun */
  _Atomic int fd;
  bool share;    /* fd is ours: it was moved [lock] */
  uint32_t turn; /* [own] */
};
/* What the call knows it by. Zeros at first. */
struct netpoll_hold {
  struct g *g;
  uint32_t turn;
};
/* The file's number. fd: the program's. */
int netpoll_number(const struct netpoll_hold *h, int fd);
/* It begins without a wait. */
void netpoll_hold_begin(struct netpoll_hold *h, int fd);
/* The call is about to block in the kernel, which has the file itself. */
void netpoll_hold_rest(struct netpoll_hold *h);
/* May block, as close. */
void netpoll_hold_end_slow(struct netpoll_hold *h);
static inline void netpoll_hold_end(struct netpoll_hold *h) {
  if (__builtin_expect(h->g != NULL, 0)) netpoll_hold_end_slow(h);
}
/* The G ends. */
void netpoll_use_end(struct netpoll_use *u);

/*
 * Parks the calling G until fd has an edge that is not among those seen (it may be read or written; of a light G also: somebody closes it), or
 * until `until` (CLOCK_MONOTONIC ns; UINT64_MAX: for ever).  call: null if nobody is to end it.  hold: it begins here, and is to be ended also where the wait
 * failed; null: only the wait has the file.
 * 0: try again (may be early); -ETIMEDOUT; -ECANCELED; -EPERM: no such descriptor can be waited for (a regular file); other -errno of
 * epoll_ctl.
 */
int netpoll_wait(int fd, enum netpoll_dir dir, uint32_t seen, uint64_t until, struct netpoll_call *call, struct netpoll_hold *hold);

/* The same for several, in one or both directions: until one of them has an edge.  What can't be waited for is left out.  Of thread Gs the wait has the files. */
struct netpoll_want {
  int fd;
  uint32_t only; /* EPOLL* bits, the only ones besides hang-up and error that are of interest; 0: all of its directions */
  bool dir[2];
  struct netpoll_hold *hold; /* where it is the only one; or null */
  uint32_t seen[2];
};
int netpoll_wait_any(const struct netpoll_want *want, size_t n, uint64_t until, struct netpoll_call *call);

/* The same file at a high number, out of the way of the program; fd itself if that is not to be had. */
int netpoll_fd_high(int fd);
/* Ours, which the program does not know of. */
#define NETPOLL_OWN 3u
bool netpoll_is_own(int fd);
/* The first of them that is not below `first`; -1: none. */
int netpoll_own_from(int first);
/* The program is about to use that number: if it is one of ours, we take another. */
void netpoll_leave_number(int fd);

/* What was known of fd is no longer true: it was just made (fresh: by a call that is known; made: by another), or is about to be closed (forget). Waiters are woken, or moved. */
void netpoll_fresh(int fd);
void netpoll_made(int fd);
/* It is a socket or a pipe: a wrapper has seen it made. */
bool netpoll_is_fresh(int fd);
void netpoll_forget(int fd);
/* It is closed by now: who came for it between netpoll_forget and that would wait for ever. */
void netpoll_wake(int fd);
/* Above all numbers that anything is known of. */
unsigned netpoll_numbers(void);
/* There is another number for the same file. */
void netpoll_copied(int fd);
/* Another process has all of them as well: what it sets is set here. */
void netpoll_shared(void);

/* A descriptor that our wrappers saw come into being, blocking, without timeouts and low-water mark, is `plain` until a wrapper sees that changed: no need to ask. */
void netpoll_set_plain(int fd);
void netpoll_changed(int fd);
bool netpoll_plain(int fd);

/*
 * A read from a TCP socket that got less than it asked for has emptied it; whatever comes later makes an edge.  So the next read need
 * not try before it waits.  seen: the edges before that read; and now.
 */
void netpoll_set_drained(int fd, uint32_t seen);
bool netpoll_drained(int fd, uint32_t seen);

/*
 * A TCP socket that our wrappers made, and that is not O_NONBLOCK, may be made so for a moment (connect).  False: not this one.
 * What the program asks and says of its flags in between is to wait: true: it is held, drop it after.
 */
bool netpoll_lend(int fd);
void netpoll_give_back(int fd);
bool netpoll_hold_flags(int fd);
void netpoll_drop_flags(int fd);

#endif
