/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLIENT_CLIENT_H
#define RATION_CLIENT_CLIENT_H
/*
 * This process's dealings with rationd, and its own pool where there is none.
 * Raw system calls only: part of it runs in the SIGURG handler of a forked child and on the
 * poller, a service thread.
 */
#include <stdbool.h>
#include <stdint.h>

struct quota;

/* Reads the environment (once). */
void client_env(void);
/* Unless it has: attaches to the daemon, or makes a pool of our own; starts the service threads.  Never fails: the worst is an open gate. */
void client_attach(void);
/* The same, but within 5 ms, unless somebody needs it earlier: client_ready. */
void client_attach_later(void);
/* The service threads have the caller's credentials. */
bool client_creds_kept(void);
/* Unless they have: leaves the pool, ends the service threads, and attaches anew with the caller's. */
void client_reattach(void);
/* In a forked child: nothing of the parent's is ours; a CPU-time timer will call client_attach when the child has lived 5 ms of it. */
void client_fork_child(void);
/* The part of it that a child with RATION_THREADS=off has, which does not attach. */
void client_forget_services(void);
/*
 * What is put off is done now.  Before the program's next thread, while there is nobody to be disturbed by it (service.c); where the number of CPUs is asked for; before the process gives up what it takes to
 * attach.
 */
void client_ready(void);
/* Gives up for good: the gate stays open. */
void client_step_aside(void);
/* Our signal is another from now on. */
void client_hidden(void);

/* standalone.c: makes a private page from our own reading of the cgroup; null if there is no memory. */
struct pool_page *standalone_page(void);
/* Once a tick on sysmon, lock held. */
void standalone_tick(unsigned long now);
/* Reads the quota again. Lock held. */
void standalone_reread(unsigned long now);
/* This process's own reading of its quota, made at the first call; null if there is no memory. */
const struct quota *standalone_quota(void);

/* phase.c.  On sysmon, lock held: learns when the kernel's period begins; returns when to be called again. */
uint64_t phase_look(uint64_t now);
/* The quota may be another one. */
void phase_forget(void);
/* The parts of phase_look, for tests: a period to learn the phase of; one reading of nr_periods and nr_throttled, made between two times. */
void phase_begin(uint64_t period_ns);
uint64_t phase_seen(uint64_t before, uint64_t after, uint64_t periods, uint64_t throttled);

/* Puts the files that may change it under inotify. */
void standalone_watch(int inotify);

#endif
