/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of the retake of a P against the return of its M (proto/m_slot.h, shim/core/handoff.c, m.h, gate.c,
 * bpf/watch.bpf.c).
 *
 *   M           in and out of system calls; what it stores goes through its CPU's store buffer
 *   retaker     holds the scheduler lock, sets `taken`, looks again, takes the P for another M or undoes
 *   drains      empty the store buffers whenever they like
 *
 * Promise   M never runs user code while its P is another's.
 *
 * Store buffers are modelled (FIFO, as on x86; the one reordering that this protocol is about, a store after a
 * later load, is the same one elsewhere).  A fence empties the buffer of the CPU that executes it; a membarrier that of
 * M's CPU too; an atomic exchange is a fence and a store.
 *
 * A switch between threads of one process has no fence between the sched_switch tracepoint and user
 * mode: that the BPF program clears blocked_at by an exchange is what makes the way back safe (BUG=2).
 *
 * optimize: 0
 * holds: -DBPF=1
 * holds: -DBPF=0
 * finds: -DBPF=1 -DBUG=1  no fence between `taken = 1` and the look at blocked_at
 * finds: -DBPF=1 -DBUG=2  blocked_at cleared by a plain store
 * finds: -DBPF=1 -DBUG=3  no second look at blocked_at
 * finds: -DBPF=0 -DBUG=1  no membarrier between `taken = 1` and the look at state
 * finds: -DBPF=0 -DBUG=2  M reads `taken` before it writes state
 * finds: -DBPF=0 -DBUG=4  the retaker looks at state before it sets `taken`
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef BPF
#define BPF 1
#endif
#define ROUNDS 3 /* system calls of M */
#define TRIES 3  /* retakes tried */

mtype = { STATE, TAKEN, BLOCKED_AT };
mtype = { NOBODY, M, OTHER };
#define RUN 0
#define SYSCALL 1
#define IDLE 2

/* memory, as all CPUs see it */
byte state = RUN;
bit taken;
byte blocked_at; /* 0, or a time that never comes twice */
bit has_p = 1;   /* under the lock only */
bit lock;
mtype owner = M; /* ghost: whose P it is */
bit m_done;

chan m_sb = [3] of { mtype, byte }; /* store buffer of M's CPU */
chan r_sb = [3] of { mtype, byte }; /* of the retaker's */

inline land(var, val) {
  if
  :: var == STATE -> state = val
  :: var == TAKEN -> taken = val
  :: var == BLOCKED_AT -> blocked_at = val
  fi
}

/* A full fence on the CPU with store buffer sb. */
inline fence(sb) {
  d_step {
    do
    :: nempty(sb) -> sb?fvar, fval; land(fvar, fval)
    :: empty(sb) -> break
    od;
    fvar = STATE;
    fval = 0
  }
}

inline take_lock(sb) {
  atomic { lock == 0 -> lock = 1 }
  fence(sb)
}

inline drop_lock(sb) {
  fence(sb);
  lock = 0
}

/* The memory system: stores come out of the buffers in order, at any time. */
proctype drain(chan sb) {
  mtype fvar;
  byte fval;
end:
  do
  :: atomic { sb?fvar, fval -> land(fvar, fval); fvar = STATE; fval = 0 }
  od
}

/* gate.c, settle(): lost it, or a retake that was undone. */
inline settle() {
  take_lock(m_sb);
  m_sb!STATE, IDLE;
  if
  :: taken == 0 && has_p -> skip
  :: else ->
    m_sb!TAKEN, 0;
    drop_lock(m_sb);
    atomic { lock == 0 && owner == NOBODY -> lock = 1; owner = M; has_p = 1 } /* waits to be granted a P again */
    fence(m_sb)
  fi;
  m_sb!STATE, RUN;
  drop_lock(m_sb)
}

proctype m_thread() {
  byte k, time;
  bit news;
  mtype fvar;
  byte fval;
  for (k : 1 .. ROUNDS) {
    assert(owner == M); /* user code */
    m_sb!STATE, SYSCALL;
    if
    :: skip /* the call does not block */
    :: time++; /* switched out: BPF's exchange in sched_switch, then in again */
      fence(m_sb);
#if BPF == 1
      blocked_at = time;
#if BUG == 2
      m_sb!BLOCKED_AT, 0;
#else
      atomic { fence(m_sb); blocked_at = 0 }
#endif
#endif
    fi;
#if BUG == 2 && BPF == 0
    news = taken;
    m_sb!STATE, RUN;
#else
    m_sb!STATE, RUN;
    news = taken;
#endif
    if
    :: news -> settle()
    :: else
    fi
  }
  assert(owner == M);
  fence(m_sb);
  m_done = 1
}

proctype retaker() {
  byte k, seen;
  bit away;
  mtype fvar;
  byte fval;
  for (k : 1 .. TRIES) {
    take_lock(r_sb);
    if
    :: owner != M || taken -> skip
    :: else ->
      seen = blocked_at;
#if BUG == 4
      away = (state == SYSCALL);
      r_sb!TAKEN, 1;
      fence(r_sb);
#elif BPF == 1
      r_sb!TAKEN, 1;
#if BUG != 1
      fence(r_sb);
#endif
#if BUG == 3
      away = (seen != 0); /* no second look at all */
#else
      away = (seen != 0 && blocked_at == seen);
#endif
#else
      r_sb!TAKEN, 1;
#if BUG != 1
      fence(r_sb);
      fence(m_sb); /* membarrier: M's CPU passes a full fence */
#endif
      away = (state == SYSCALL);
#endif
      if
      :: away -> owner = OTHER; has_p = 0
      :: else -> r_sb!TAKEN, 0
      fi
    fi;
    drop_lock(r_sb);
    if
    :: owner == OTHER -> owner = NOBODY /* the other M ran, and gave it back */
    :: else
    fi;
    if
    :: m_done -> break
    :: else
    fi
  }
}

init {
  atomic {
    run drain(m_sb);
    run drain(r_sb);
    run m_thread();
    run retaker()
  }
}
