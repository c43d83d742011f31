/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of parking and granting (shim/core/gate.c park_m, sched.c sched_grant) and of the lock that they
 * run under (shim/core/lock.h), with the futexes below both.
 *
 *   an M    takes the lock; takes a free P, or queues itself, drops the lock and sleeps until m->park is 1,
 *           which it clears; runs; gives its P to the first in the queue, or frees it
 *   grant   under the lock: dequeues an M, then park = 1 and a futex wake
 *
 * The word is a token: a grant between the drop of the lock and the sleep is not lost, since the
 * sleep compares the word.  Only the M clears it, and only after it saw it, so that the clear never meets the next grant.
 *
 * Promises   the lock excludes; a P has one holder; nobody sleeps for ever (invalid end state).
 *            Futex waits may return for no reason, and do in here.
 *
 * holds:
 * finds: -DBUG=1  the M looks at the word and then sleeps without comparing it again
 * finds: -DBUG=2  the M clears the word before it sleeps
 * finds: -DBUG=3  the M drops the lock before it is in the queue
 * finds: -DBUG=4  the lock's slow path takes it as 1, not 2: the next drop wakes nobody
 * finds: -DBUG=5  the M trusts a wake-up without looking at the word
 * finds: -DBUG=6  the lock is taken by a look and a store
 */
#ifndef BUG
#define BUG 0
#endif
#define NM 3
#define ROUNDS 2
#define NOBODY 255

byte lock;      /* 0 free, 1 held, 2 held and someone may wait */
bit park[NM];
bit asleep_lock[NM], asleep_park[NM]; /* the kernel's futex queues */
byte spurious = 1;                    /* wake-ups for no reason that may still happen */

byte queue[NM] = NOBODY;
byte queued;
bit p_free = 1;
byte running;  /* ghost: Ms with the P */
byte in_lock;  /* ghost: Ms under the lock */

inline futex_wake_lock() {
  atomic {
    if
    :: asleep_lock[0] -> asleep_lock[0] = 0
    :: asleep_lock[1] -> asleep_lock[1] = 0
    :: asleep_lock[2] -> asleep_lock[2] = 0
    :: else
    fi
  }
}

inline lock_take() {
#if BUG == 6
  old = lock;
  if
  :: old == 0 -> lock = 1
  :: else
  fi;
#else
  atomic {
    old = lock;
    if
    :: old == 0 -> lock = 1
    :: else
    fi
  }
#endif
  do
  :: old == 0 -> break
  :: else ->
#if BUG == 4
    atomic {
      old = lock;
      if
      :: old == 0 -> lock = 1
      :: else -> lock = 2
      fi
    }
#else
    atomic { old = lock; lock = 2 }
#endif
    if
    :: old == 0 -> break
    :: else
    fi;
    atomic { /* FUTEX_WAIT lock 2 */
      if
      :: lock == 2 -> asleep_lock[id] = 1
      :: else
      fi
    }
    asleep_lock[id] == 0
  od;
  in_lock++;
  assert(in_lock == 1)
}

inline lock_drop() {
  in_lock--;
  atomic { old = lock; lock = 0 }
  if
  :: old == 2 -> futex_wake_lock()
  :: else
  fi;
  old = 0
}

inline enqueue() {
  queue[queued] = id;
  queued++
}

/* Under the lock: the P goes to the first in the queue, or is free. */
inline give_p() {
  running--;
  if
  :: queued > 0 ->
    d_step {
      to = queue[0];
      queue[0] = queue[1];
      queue[1] = queue[2];
      queue[2] = NOBODY;
      queued--
    }
    running++;
    park[to] = 1;
    asleep_park[to] = 0 /* FUTEX_WAKE */
  :: else -> p_free = 1
  fi;
  to = 0
}

/* FUTEX_WAIT park 0 */
inline wait_park() {
#if BUG == 1
  asleep_park[id] = 1;
#else
  atomic {
    if
    :: park[id] == 0 -> asleep_park[id] = 1
    :: else
    fi
  }
#endif
  asleep_park[id] == 0
}

inline park_m() {
#if BUG == 3
  lock_drop();
  enqueue();
#else
  enqueue();
  lock_drop();
#endif
#if BUG == 2
  park[id] = 0;
#endif
#if BUG == 5
  if
  :: park[id] == 0 -> wait_park()
  :: else
  fi;
#else
  do
  :: park[id] == 0 -> wait_park()
  :: else -> break
  od;
#endif
  park[id] = 0
}

proctype m(byte id) {
  byte k, old, to;
  for (k : 1 .. ROUNDS) {
    lock_take();
    if
    :: p_free -> p_free = 0; running++; lock_drop()
    :: else -> park_m()
    fi;
    assert(running == 1 && !p_free && queue[0] != id && queue[1] != id && queue[2] != id);
    lock_take();
    give_p();
    lock_drop()
  }
}

/* Signals and what else wakes a futex for no reason. */
proctype nature() {
end:
  do
  :: atomic { spurious > 0 && asleep_park[0] -> asleep_park[0] = 0; spurious-- }
  :: atomic { spurious > 0 && asleep_park[1] -> asleep_park[1] = 0; spurious-- }
  :: atomic { spurious > 0 && asleep_lock[2] -> asleep_lock[2] = 0; spurious-- }
  od
}

init {
  atomic { run m(0); run m(1); run m(2); run nature() }
}
