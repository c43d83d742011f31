/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DEBUG_H
#define RATION_DEBUG_H
/*
 * What a program can ask about its own light Gs.  The same dump is written to stderr when all Gs are asleep and after SIGQUIT, if the program
 * runs in ration_main and has no handler of its own for it; `ration gs PID` asks for it from outside.  Both may be called in any G and thread.
 */
#include <ration/g.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Writes all light Gs to fd, at most 100,000 of them:
 *
 *   G 7 "worker" [chan receive, 3 minutes]:
 *       ration_chan_recv+0x40 (libration.so)
 *       worker+0x12 (prog)
 *       began in worker (prog)
 *       created by G 1
 *
 * In brackets: "running", "runnable", "syscall", or why it waits and for how long.  Gs that run are stopped meanwhile, all at one moment as far
 * as they run code; one in a system call has the stack that it has there.  Function names come from the files' symbol
 * tables, static ones too if they are not stripped.  Async-signal-safe.
 */
RATION_API void ration_dump(int fd);

/*
 * Finds Gs that wait for a channel, or in a select, that nobody can ever serve, writes them to fd in the form above (-1: does not), and returns how
 * many there are.  -EBUSY: a dump or another check is under way.  -ENOMEM.  Other values below 0: /proc can't be read.
 *
 * Such a G
 *   waits for a nil channel, or in a select without cases and without timeout; or
 *   none of its channels can be reached.  Reachable is what a pointer leads to, to its first byte, from: the data of the program
 *   and its libraries, the heap, the stacks and thread-local variables of all threads, the stacks of Gs that run, can run, or wait for anything else than
 *   channels, and of those that wait for a channel that is reachable itself; or
 *   the heap alone leads to its channel, and the channel's reference count (ration_chan_ref) is no more than the number of Gs that wait
 *   for it without hope: then what is in the heap is taken for theirs, or for garbage.
 *
 * What this can't tell, because C does not:
 *   a pointer that lies in freed memory, in a dead variable, or is a number by chance counts: a leak is not seen then
 *   a pointer that the program keeps in another form (xor, tagged, in a file, in shared or unreadable memory), or only in a register of a thread that is
 *   blocked in a system call, does not count: a G is named that is no leak.  The same if the one who holds a channel through a structure in the heap
 *   did not count its reference.
 *   Threads in system calls may come back while the check looks.  It looks twice, and names what it found both times.
 *
 * Takes time with the memory that the process has touched, about a second for 2 GB, while Gs stand.  For tests and debugging.  Not async-signal-safe.
 */
RATION_API int ration_leaks(int fd);

#ifdef __cplusplus
}
#endif
#endif
