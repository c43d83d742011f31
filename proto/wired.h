/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PROTO_WIRED_H
#define RATION_PROTO_WIRED_H
/*
 * Why a thread G of free mode gets a kernel thread for good: X(NAME, text).  shim/free/wire.c counts by this list, the pool page and the frame PS_MORE
 * have the counts in its order, `ration ps` has the texts.  Process, daemon and command may be of different versions: a new reason goes to the end.
 */
#define WIRED_LIST(X)                                                                                  \
  X(SIGNALS, "signals")   /* it opens signals that it was born with blocked, or sends one to itself */ \
  X(ALTSTACK, "altstack") /* a fault that it handles on a stack of its own */                          \
  X(SCHED, "sched")       /* a policy, priority or affinity of its own */                              \
  X(OBJECT, "object")     /* a robust, priority-inheriting, protected or process-shared object */      \
  X(OTHER, "other")

#endif
