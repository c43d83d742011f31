/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of the pthread mutex of free mode (shim/free/plock.c), and of conditions that move their waiters to it (shim/free/pcond.c, lot_move).  What is modelled, by
 * its name there:
 *
 *   lock_slow, queue, woken       a compare-and-swap, or: under the lock of the lot, locked still? WAITERS on; queue; a woken one puts back what its wake-up said
 *   let_go, plock_unlock          a compare-and-swap of LOCKED alone, or: under the lock, all off and the first is woken; or, STARVING, it has the lock
 *   give_up, queue_left           a timeout takes its waiter out, which then looks whether it was the last
 *   wait, wake, plock_adopt, plock_adopted    a condition's waiters, signalled: to the mutex's queue, but the first if the mutex is free
 *
 * That a note is set once and ends one park is waitgroup.pml's business: here it is a bit.  Whether a waiter starves is anybody's guess.
 *
 * Promises   one owner at a time; nobody is left asleep (invalid end state); a timeout never takes a waiter that was signalled.
 *
 *   (none)  three that lock, the third for a time only, one more round for the first two
 *   COND    one waiter, one with a timeout, and who signals them: one or all, with the mutex or without
 *
 * optimize: 2
 * holds:
 * holds: -DCOND
 * finds: -DBUG=1  the woken one forgets that others are queued
 * finds: -DCOND -DBUG=2  so does the one that a signal woke
 * finds: -DBUG=3  who gives up takes WAITERS along
 * finds: -DBUG=4  the waiter does not look again under the lock
 * finds: -DBUG=5  a hand-over takes WAITERS along
 * finds: -DCOND -DBUG=6  a moved waiter can be taken out by its timeout
 * finds: -DCOND -DBUG=7  those that are moved to a locked mutex leave WAITERS as it is
 */
#ifndef BUG
#define BUG 0
#endif
#define NG 3
#define NONE 255

/* the mutex's word: one atomic variable, so its bits change at once */
bit locked, waiters, starving;
byte owner = NONE; /* ghost */

bit mlock, clock; /* the lots of the mutex and of the condition */
chan mq = [NG] of { byte };
chan cq = [NG] of { byte };
bit cword, flag; /* the condition's word; what is waited for, under the mutex */

/* a waiter, on its stack */
bit queued[NG], note[NG], handoff[NG], more[NG], timed[NG];
bit at_mutex[NG]; /* its key */

inline take(l) { atomic { l == 0 -> l = 1 } }

/* Waits for the note; or gave[id], if its time is over.  lot_wait_limited. */
bit gave[NG];
inline lot_wait(id) {
  gave[id] = 0;
  if
  :: note[id] == 1
  :: timed[id] && note[id] == 0 ->
    if /* the key is read, then that lot is locked */
    :: at_mutex[id] == 0 -> take(clock); at = 0
    :: at_mutex[id] == 1 -> take(mlock); at = 1
    fi;
    if
    :: queued[id] ->
      queued[id] = 0;
      gave[id] = 1;
      atomic {
        if
        :: at == 0 -> assert(cq??[eval(id)]); cq??eval(id)
        :: else -> assert(mq??[eval(id)]); mq??eval(id)
        fi
      }
    :: else
    fi;
    if
    :: at == 0 -> clock = 0
    :: else -> mlock = 0
    fi;
    if
    :: gave[id]
    :: else -> note[id] == 1
    fi
  fi
}

/* lock_slow, from where this one stands: m is WAITERS or 0, s says that it starves.  ok: it has the lock. */
inline lock(id) {
  ok = 0;
  do
  :: atomic { locked == 0 -> locked = 1; waiters = waiters | m; ok = 1 }; break
  :: locked == 1 ->
    take(mlock);
    atomic {
      if
      :: locked == 1 || BUG == 4 -> waiters = 1; starving = starving | s; looked = 1
      :: else -> looked = 0
      fi
    }
    if
    :: looked == 0 -> mlock = 0
    :: else ->
      note[id] = 0; at_mutex[id] = 1; queued[id] = 1; mq!id; mlock = 0; m = 0;
      lot_wait(id);
      if
      :: gave[id] ->
        take(mlock);
        if
        :: len(mq) == 0 || BUG == 3 -> waiters = 0
        :: else
        fi;
        mlock = 0;
        break
      :: handoff[id] ->
        ok = 1;
        if
        :: starving = 0
        :: skip
        fi;
        break
      :: else ->
        m = (BUG == 1 -> 0 : more[id]);
        if
        :: s = 1
        :: skip
        fi
      fi
    fi
  od
}

inline enter(id) { atomic { assert(owner == NONE && locked); owner = id } }

inline unlock(id) {
  owner = NONE;
  if
  :: atomic { waiters == 0 && starving == 0 -> locked = 0 }
  :: atomic { waiters == 1 || starving == 1 -> skip };
    take(mlock);
    if
    :: atomic { len(mq) == 0 -> locked = 0; waiters = 0; starving = 0 }; mlock = 0
    :: len(mq) > 0 ->
      atomic {
        mq?w;
        queued[w] = 0;
        more[w] = (len(mq) > 0);
        handoff[w] = starving;
        if
        :: starving -> waiters = (BUG == 5 -> 0 : more[w]); starving = more[w]
        :: else -> locked = 0; waiters = 0
        fi
      }
      mlock = 0;
      note[w] = 1
    fi
  fi
}

proctype locker(byte id; byte rounds) {
  byte w; bit m, s, ok, looked, at;
  do
  :: rounds == 0 -> break
  :: else ->
    rounds--;
    m = 0; s = 0;
    lock(id);
    if
    :: ok -> enter(id); unlock(id)
    :: else
    fi
  od
}

/* pthread_cond_wait, or a timed one once. */
proctype cond_waiter(byte id) {
  byte w; bit m, s, ok, looked, at, patient, over;
  patient = timed[id];
  timed[id] = 0;
  m = 0; s = 0;
  lock(id);
  enter(id);
  do
  :: flag || over -> break
  :: else ->
    take(clock); cword = 1; note[id] = 0; at_mutex[id] = 0; queued[id] = 1; cq!id; clock = 0;
    unlock(id);
    timed[id] = patient;
    lot_wait(id);
    timed[id] = 0;
    m = 0; s = 0; ok = 0;
    if
    :: gave[id] -> over = 1; lock(id)
    :: !gave[id] && handoff[id] -> ok = 1
    :: else -> m = (BUG == 2 -> 0 : more[id]); lock(id)
    fi;
    enter(id)
  od;
  unlock(id)
}

/* wake and plock_adopt */
inline wake(all) {
  if
  :: cword == 0
  :: else ->
    take(clock);
    n = 0;
    do
    :: atomic { len(cq) > 0 && (all || n == 0) -> cq?w; queued[w] = (BUG == 6); list[n] = w; n++ }
    :: else -> break
    od;
    if
    :: len(cq) == 0 -> cword = 0
    :: else
    fi;
    clock = 0;
    if
    :: n == 0
    :: else ->
      take(mlock);
      now = NONE; k = 0;
      atomic {
        if
        :: locked -> waiters = (BUG == 7 -> waiters : 1)
        :: else -> now = list[0]; k = 1
        fi
      }
      do
      :: k < n -> handoff[list[k]] = 0; at_mutex[list[k]] = 1; mq!list[k]; k++
      :: else -> break
      od;
      if
      :: now != NONE -> handoff[now] = 0; more[now] = (len(mq) > 0)
      :: else
      fi;
      mlock = 0;
      if
      :: now != NONE -> note[now] = 1
      :: else
      fi
    fi
  fi
}

proctype signaller(byte id) {
  byte w, n, k, now; byte list[NG]; bit m, s, ok, looked, at;
  m = 0; s = 0;
  lock(id);
  enter(id);
  flag = 1;
  if
  :: true -> wake(1); unlock(id)
  :: true -> unlock(id); wake(1)
  :: true -> wake(0); unlock(id); wake(0)
  fi
}

init {
  atomic {
#ifdef COND
    timed[1] = 1;
    run cond_waiter(0);
    run cond_waiter(1);
    run signaller(2);
#else
    timed[2] = 1;
    run locker(0, 2);
    run locker(1, 2);
    run locker(2, 1);
#endif
  }
}
