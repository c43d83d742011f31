/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_G_H
#define RATION_G_H
/*
 * Light Gs: functions that run side by side, a million of them, on as many CPUs as the process's cgroup was given.
 * The semantics are those of Go's go statement and of package runtime (https://go.dev/ref/spec#Go_statements).
 *
 *   #include <ration/ration.h>
 *
 *   static void hello(void *name) { printf("hello, %s\n", (const char *)name); }
 *
 *   static int prog(int argc, char **argv) {
 *     ration_go(hello, "world");
 *     ration_sleep(RATION_MS);
 *     return 0;
 *   }
 *   int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
 *
 * Every function here may be called in any thread and any G, unless it says otherwise.  None is async-signal-safe.  None waits but ration_main, ration_yield,
 * ration_sleep, and ration_go as it says.  "Fatal" means: says so on stderr and aborts, where Go panics.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RATION_API __attribute__((visibility("default")))

/* Durations, ns. */
typedef int64_t ration_ns;
#define RATION_US ((ration_ns)1000)
#define RATION_MS ((ration_ns)1000000)
#define RATION_SECOND ((ration_ns)1000000000)
#define RATION_FOREVER INT64_MAX

typedef void ration_fn(void *arg);

/*
 * Runs fn(arg) in a new light G.  Returns at once, 0; -EAGAIN: no memory for its stack; the error of ration_start, if that is what it begins with.  Fatal: fn is null.
 * What was done before is seen in the new G.  A G that spawns faster than its P can run lets the others have their turn
 * now and then, inside of this call.  Go spec, "Go statements".
 */
RATION_API int ration_go(ration_fn *fn, void *arg);

/* For ration_go_attr.  Zeros mean the defaults. */
struct ration_attr {
  size_t stack;     /* bytes of address space for its stack, 16 KiB to 1 GiB; 0: 64 KiB */
  const char *name; /* for dumps; copied, 23 bytes of it */
};
/* The same with attributes (null: all defaults).  -EINVAL: the stack is too small or absurdly large (over 1 GiB). */
RATION_API int ration_go_attr(ration_fn *fn, void *arg, const struct ration_attr *attr);

/*
 * Runs main_fn(argc, argv) in a light G, the program's main G, and returns what it returned.  Other Gs that still run are left where they are, as
 * when Go's main returns.  The calling thread waits.  If nothing can ever run again, writes "all Gs are asleep - deadlock!" with all Gs to stderr and exits with 2.
 * Returns 2 if the scheduler could not be started, and says why on stderr.  In a G it works the same: that G waits for the main G inside.
 */
RATION_API int ration_main(int argc, char **argv, int (*main_fn)(int argc, char **argv));

/* Starts the scheduler; ration_go does so by itself.  0, also if it runs already; or -errno (no memory, no thread).  Ps: as many as RATION_MAXPROCS or the quota says. */
RATION_API int ration_start(void);

/* Lets other Gs run.  runtime.Gosched. */
RATION_API void ration_yield(void);

/* Ends the calling G (its cleanups are its own business).  The main G stops for ever.  In a thread that is no G: pthread_exit(NULL).  runtime.Goexit. */
RATION_API void ration_exit(void) __attribute__((noreturn));

/* Pauses the calling G or thread for at least d; d <= 0: returns at once; RATION_FOREVER: for ever.  time.Sleep. */
RATION_API void ration_sleep(ration_ns d);

/* CLOCK_MONOTONIC, ns. */
RATION_API ration_ns ration_now(void);

/* Number of Ps light Gs run on.  Starts the scheduler; 1 if that fails.  runtime.GOMAXPROCS(0). */
RATION_API unsigned ration_maxprocs(void);

/* Light Gs that live, main's included.  runtime.NumGoroutine. */
RATION_API size_t ration_ngs(void);

/* The caller's number, from 1, never used again; 0: a thread that is no light G.  For logs and dumps (Go has none). */
RATION_API uint64_t ration_gid(void);

/*
 * Binds the calling G to its kernel thread until as many ration_unlock_os_thread: no other G runs there.  It is not preempted.  An unlock too many
 * does nothing.  In a plain thread nothing changes.  A G that ends without having unlocked it takes the thread along, with what it has changed of that.
 * runtime.LockOSThread.
 */
RATION_API void ration_lock_os_thread(void);
RATION_API void ration_unlock_os_thread(void);

/*
 * errno, in a G: a call that parks may come back on another kernel thread, and the compiler may keep the address of the old one's errno over it
 * (glibc declares its function const).  After this header errno is looked up each time.
 */
RATION_API int *ration_errno(void);
#undef errno
#define errno (*ration_errno())

#ifdef __cplusplus
}
#endif
#endif
