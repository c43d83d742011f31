/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_WATCH_H
#define RATION_DAEMON_WATCH_H
/*
 * The daemon's side of the BPF programs (bpf/watch.bpf.c): loads them once,
 * then gives each process that attaches its own M map and its own ring buffer
 * (proto/m_slot.h), and tells the kernel which threads belong to it.
 *
 * Needs CAP_BPF and CAP_PERFMON, at open and at each attach.  All functions are to
 * be called by one thread.  None of them waits for the kernel's RCU: a thread of
 * watch.c does what has to wait.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct watch;      /* the programs, loaded and attached */
struct watch_proc; /* one process of theirs */

/* Loads and attaches the programs.  Returns 0, or -errno with one line in `err` that says why not. */
int watch_open(struct watch **ret, char *err, size_t errsize);
/* Takes the programs out of the kernel.  Detach all processes first.  NULL is allowed. */
void watch_close(struct watch *w);
/* M_CAP_* of what is attached. */
uint32_t watch_caps(const struct watch *w);

/* A process: its pid as this daemon sees it; the caller keeps the pidfd. */
struct watch_peer {
  pid_t pid;
  int pidfd;
  uid_t uid; /* all its threads must have this effective uid, else -EPERM; 0: whose they are does not matter */
};

/*
 * Starts to watch a process.  m_slots is brought into M_SLOTS_MIN..MAX
 * and up to a power of two; watch_proc_slots() says what came out.
 * *map_fd and *ring_fd stay the watch_proc's: send them on, don't close them.
 * *ring_size is the size of the ring's data in bytes.
 *
 * The process need not be new to us: when a process attaches again (exec, reconnect), its
 * threads change over to the new watch_proc, and detaching the old one, before or after, disturbs nothing.
 */
int watch_attach(struct watch *w, const struct watch_peer *who, uint32_t m_slots, int *map_fd, int *ring_fd, uint32_t *ring_size,
                 struct watch_proc **ret);
uint32_t watch_proc_slots(const struct watch_proc *p);
/* Stops watching it and frees everything.  The process may be dead or alive.  NULL is allowed. */
void watch_detach(struct watch_proc *p);

/*
 * Tells that the thread of `thread_pidfd` (PIDFD_THREAD, or the leader's) is M
 * `slot`; the client has written slot.tid before.  For clients that don't keep
 * the table tid -> slot themselves.  -EPERM: the thread is not of this process;
 * -ERANGE: no such slot; -EBADF: no pidfd; -ESRCH: it is gone.
 */
int watch_register_m(struct watch_proc *p, int thread_pidfd, uint32_t slot);
int watch_unregister_m(struct watch_proc *p, int thread_pidfd);

#endif
