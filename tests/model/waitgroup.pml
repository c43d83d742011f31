/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of the wait group (shim/sync/waitgroup.c) on the parking lot (shim/sync/lot.c).  What is modelled, by its name there:
 *
 *   ration_waitgroup_add           a compare-and-swap; or, where it would become 0 with WAITERS set, the end of the round under the lot's lock
 *   waitgroup_wait_limit           a look; lot_lock; WAITERS on; lot_push; lot_unlock; lot_wait
 *   note_wait, note_commit, note_set     the park, for the lock is let go before
 *   limit_reached, give_up, lot_wait_limited     a timeout takes its waiter out of the queue, or comes too late and says that it is `over`
 *
 * Promises   no wait returns before the counter was 0 since it began (or its time is over); nobody is left asleep (invalid end state); a note is set once, and
 *            ends one park; nobody touches the word when a waiter has returned who may free it (-DFREE), or the waiter when that is gone.
 *
 *   (none)  two waiters and two workers; one of the waiters begins a round of its own as soon as it is out
 *   LATE    an add from outside while the worker ends the round: the counter goes 1, 2, 1, 0 or 1, 0, 1, 0
 *   FREE    one waiter: with a timeout, again without, then it frees the group at once
 *   TIMER   as the first, but that waiter has a timeout
 *
 * optimize: 0
 * holds:
 * holds: -DLATE
 * holds: -DFREE
 * holds: -DTIMER
 * finds: -DBUG=1  the last round ends before the lock is taken
 * finds: -DBUG=2  the waiter does not look again under the lock
 * finds: -DBUG=3  the waiter sets WAITERS by a plain store
 * finds: -DBUG=4  the end of the round leaves WAITERS set, and clears it when the queue has been emptied
 * finds: -DBUG=5  the waiter parks without comparing its note
 * finds: -DBUG=6  the waiter drops the lock before it is in the queue
 * finds: -DFREE -DBUG=7   WAITERS is cleared by a store of its own, after the counter
 * finds: -DTIMER -DBUG=8  the timeout sets the note without a look whether its waiter is queued
 * finds: -DTIMER -DBUG=9  the waiter does not wait for a timer that it can't stop
 * finds: -DLATE -DBUG=10  the slow path takes for granted that it ends the round
 */
#ifndef BUG
#define BUG 0
#endif
#define NG 3
#define NONE 255

mtype = { UNSET, PARKED, SET }; /* note.state */

/* the word: one atomic variable, so both change at once */
byte count;
bit waiters;
bit freed; /* ghost */

bit lock;  /* the lot's */
chan queue = [NG] of { byte };

/* a waiter, on its stack */
bit stands[NG]; /* ghost: it is there */
bit queued[NG];
mtype note[NG];
bit timed_out[NG];

bit parked[NG], readied[NG];
bit timer_armed[NG];
mtype over[NG]; /* the second note of a waiter with a limit */

byte zeros; /* ghost: how often the counter became 0 */
byte ended;

inline lot_lock() { atomic { lock == 0 -> lock = 1 } }
inline lot_unlock() { lock = 0 }

inline g_ready(x) {
  d_step {
    assert(parked[x] && !readied[x]);
    readied[x] = 1
  }
}

/* note_commit is a CAS by whoever runs after the G has left its stack */
inline note_wait(n) {
#if BUG == 5
  parked[id] = 1;
  n = PARKED;
#else
  d_step {
    if
    :: n == UNSET -> n = PARKED; parked[id] = 1
    :: else
    fi
  }
#endif
  if
  :: parked[id] -> atomic { readied[id] -> readied[id] = 0; parked[id] = 0 }
  :: else
  fi
}

/* x's note n; the last touch of it, unless it was parked */
inline note_set(n, x) {
  d_step { assert(stands[x] && n != SET); old = n; n = SET }
  if
  :: old == PARKED -> g_ready(x)
  :: else
  fi;
  old = 0
}

/* ok = CAS of the whole word; ghosts */
inline cas(from_n, from_w, to_n, to_w) {
  d_step {
    assert(!freed && (to_n) >= 0);
    ok = (count == from_n && waiters == from_w);
    if
    :: ok ->
      if
      :: (to_n) == 0 && (from_n) != 0 -> zeros++
      :: else
      fi;
      waiters = to_w;
      count = to_n
    :: else
    fi
  }
}
inline load() { d_step { assert(!freed); c0 = count; w0 = waiters } }

/* Empties the queue: into all[0 .. n-1] */
inline pop_all() {
  d_step {
    n = 0;
    do
    :: len(queue) > 0 -> queue?x; assert(stands[x]); queued[x] = 0; all[n] = x; n++
    :: else -> break
    od;
    x = 0
  }
}

inline wake_all() {
  k = 0;
  do
  :: k < n -> note_set(note[all[k]], all[k]); k++
  :: else -> break
  od;
  atomic { n = 0; k = 0; all[0] = 0; all[1] = 0; all[2] = 0 }
}

inline add(delta) {
  load();
  do
  :: c0 + delta == 0 && w0 && BUG != 1 -> break
  :: else ->
    cas(c0, w0, c0 + delta, w0);
    if
    :: ok -> break
    :: else -> load()
    fi
  od;
  if
  :: c0 + delta == 0 && w0 ->
    lot_lock();
#if BUG == 1
    pop_all();
    d_step { assert(!freed); waiters = 0 }
    ok = 1;
#elif BUG == 10
    d_step { assert(!freed); count = 0; waiters = 0; zeros++ }
    pop_all();
    ok = 1;
#else
    do
    :: load();
#if BUG == 4 || BUG == 7
      cas(c0, w0, c0 + delta, w0);
#else
      cas(c0, w0, c0 + delta, (c0 + delta == 0 -> 0 : w0));
#endif
      if
      :: ok -> break
      :: else
      fi
    od;
#if BUG == 7
    if
    :: c0 + delta == 0 -> assert(!freed); waiters = 0
    :: else
    fi;
#endif
    if
    :: c0 + delta == 0 -> pop_all()
    :: else
    fi;
#endif
    lot_unlock();
    wake_all();
#if BUG == 4
    waiters = 0
#endif
  :: else
  fi;
  d_step { c0 = 0; w0 = 0; ok = 0 }
}

inline wait(timed) {
  d_step { began = zeros; was = (count == 0) } /* ghost */
  load();
  if
  :: c0 == 0
  :: else ->
    d_step { stands[id] = 1; note[id] = UNSET; over[id] = UNSET; timed_out[id] = 0 }
    lot_lock();
    do
    :: load();
      if
      :: c0 == 0 && BUG != 2 -> lot_unlock(); break
      :: else ->
#if BUG == 3
        d_step { assert(!freed); count = c0; waiters = 1 }
        ok = 1;
#else
        cas(c0, w0, c0, 1);
#endif
        if
        :: ok -> break
        :: else
        fi
      fi
    od;
    if
    :: ok ->
#if BUG == 6
      lot_unlock();
      d_step { queued[id] = 1; queue!id }
#else
      d_step { queued[id] = 1; queue!id }
      lot_unlock();
#endif
      if
      :: timed -> timer_armed[id] = 1
      :: else
      fi;
      note_wait(note[id]);
      if
      :: timed ->
        d_step { ok = timer_armed[id]; timer_armed[id] = 0 } /* timer_stop */
#if BUG != 9
        if
        :: !ok -> note_wait(over[id])
        :: else
        fi
#endif
      :: else
      fi
    :: else
    fi;
    stands[id] = 0
  fi;
  d_step {
    assert(timed_out[id] || was || zeros != began);
    assert(!queued[id] && !parked[id]);
    c0 = 0;
    w0 = 0;
    ok = 0;
    began = 0;
    was = 0
  }
}

/* limit_timer of that G */
proctype timer(byte g) {
  bit was;
  mtype old;
end:
  do
  :: atomic { timer_armed[g] -> timer_armed[g] = 0; assert(stands[g]) }
#if BUG == 8
    was = 1;
    lot_lock();
    d_step {
      if
      :: queued[g] -> queue??eval(g); queued[g] = 0
      :: else
      fi;
      timed_out[g] = 1
    }
    lot_unlock();
#else
    lot_lock();
    d_step {
      assert(stands[g]);
      was = queued[g];
      if
      :: was -> queue??eval(g); queued[g] = 0; timed_out[g] = 1
      :: else
      fi
    }
    lot_unlock();
#endif
    note_set(over[g], g);
    if
    :: was -> note_set(note[g], g)
    :: else
    fi;
    was = 0
  od
}

#define VARS                           \
  byte c0, n, k, x, began, all[3];     \
  bit w0, ok, was;                     \
  mtype old

proctype worker(byte id) {
  VARS;
  add(-1);
  ended++
}

/* Somebody who has no part in the round. */
proctype late(byte id) {
  VARS;
  add(1);
  add(-1);
  ended++
}

/* again: begins a round of its own afterwards */
proctype waiter(byte id; bit timed; bit again) {
  VARS;
  wait(timed);
#ifdef FREE
  wait(false); /* if it timed out, WAITERS is still set */
  freed = 1;
#else
  if
  :: again -> add(1); run worker(2); wait(false)
  :: else
  fi;
#endif
  ended++
}

proctype at_the_end(byte n) {
end:
  timeout ->
  assert(ended == n && count == 0 && len(queue) == 0 && lock == 0)
}

init {
  atomic {
#ifdef FREE
    count = 2;
    run timer(0);
    run worker(1);
    run worker(2);
    run waiter(0, true, false);
    run at_the_end(3)
#elif defined(LATE)
    count = 1;
    run worker(1);
    run late(2);
    run waiter(0, false, false);
    run at_the_end(3)
#elif defined(TIMER)
    count = 1;
    run timer(0);
    run worker(2);
    run waiter(0, true, true);
    run waiter(1, false, false);
    run at_the_end(4)
#else
    count = 2;
    run worker(2);
    run worker(2);
    run waiter(0, false, true);
    run waiter(1, false, false);
    run at_the_end(5)
#endif
  }
}
