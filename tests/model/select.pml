/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of channels and select (shim/sync/chan.h, chan.c, select.c).  What is modelled, by its name there:
 *
 *   queue_pop, chan_send_locked, chan_recv_locked      a waiter of a select is taken by whoever moves g->select_done from 0 to 1
 *   wait_in                                            one waiter, park, the commit drops the lock
 *   do_one, wait_in_all, commit_unlock_all, leave_all  the three passes of a select; the commit runs while the G may already be on its way
 *   select_timeout, stop_timer, await_timer            the timer, and the wait for its end
 *   ration_chan_close, ration_chan_try_send            and the look without lock
 *
 * frame[g] says that the stack frame of a select, or of a wait, stands: with its waiters, its timer and its list of channels.
 *
 * Promises   each g_park is ended by one g_ready, which finds the G parked; nobody touches a frame that is gone; an item that was sent is received once, or
 *            lies in the buffer; a select does one case; close wakes all; nobody waits who has a partner (invalid end state).
 *
 * Threads interleave step by step.  The stores of close that try_send looks at without the lock come in the order in which they are made, by the fence
 * between them; BUG=11 is the order that would be possible without.
 * The lock is a bit: chan.h says how it is taken and dropped.
 *
 *   (none)  a G selects twice over two receives, two Gs send             PAIR   two selects, each {send, receive}, crosswise
 *   CLOSE   one channel is closed instead; a plain receiver waits there  SAME   two selects, each {send, receive} on the same channel
 *   TIMER   one select with a timeout, two try_sends                     TRY    a receiver waits, close, and a try_send that looks without lock
 *
 * optimize: 0
 * holds:
 * holds: -DCAP=1
 * holds: -DCLOSE
 * holds: -DCLOSE -DCAP=1
 * holds: -DPAIR
 * holds: -DSAME
 * holds: -DTIMER
 * holds: -DTIMER -DCLOSE
 * holds: -DTRY
 * finds: -DBUG=1          the waker looks at select_done and stores, without CAS
 * finds: -DCLOSE -DBUG=2  close takes waiters without a look at select_done
 * finds: -DBUG=3          the commit looks at the list again when it has dropped the last lock
 * finds: -DBUG=4          pass 3 does not take the locks of channels where it is not queued any more
 * finds: -DBUG=5          the G queues itself when the locks are free
 * finds: -DBUG=6          pass 1 locks one channel after the other
 * finds: -DTIMER -DBUG=7  the timer does not take the lock of the first channel
 * finds: -DTIMER -DBUG=8  who was served does not wait for the end of a timer that it can't stop
 * finds: -DCLOSE -DBUG=9  a waiter that was won elsewhere ends the search
 * finds: -DBUG=10         select_done is armed when the locks are free
 * finds: -DTRY -DBUG=11   close empties the queue before it says closed
 * finds: -DTRY -DBUG=12   try_send looks at closed first
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef CAP
#define CAP 0
#endif
#define NG 3
#define NONE 255
#define G_OF(w) ((w) / 2)
#define W(g, k) ((g) * 2 + (k))

mtype = { SEND, RECV };                /* the case of a select */
mtype = { DONE, CLOSED, BLOCKS };      /* enum chan_result */
mtype = { ARMED, AWAITED, OVER };      /* select.timer */

/* channels; the address of 0 is below that of 1 */
bit lock[2], closed[2];
byte count[2], slot[2];
chan receivers[2] = [4] of { byte };
chan senders[2] = [4] of { byte };

/* waiters, two for each G */
bit queued[6], success[6];
byte elem[6];

/* Gs */
bit is_select[NG];
byte done[NG] = 1; /* select_done */
byte wait[NG] = NONE;
bit parked[NG], readied[NG];
bit frame[NG]; /* ghost */

/* selects */
byte cc[6] = NONE; /* the channel of a case, or null */
mtype cop[6];
bit committing[NG];
bit timer_armed[NG];
mtype timer_state[NG];

bit sent[5], got[5]; /* ghost, by item */
byte ended;

inline take(c) { atomic { lock[c] == 0 -> lock[c] = 1 } }
inline drop(c) { lock[c] = 0 }

inline g_ready(x) {
  atomic {
    assert(parked[x] && !readied[x]);
    readied[x] = 1
  }
}
inline until_ready() { atomic { readied[id] -> readied[id] = 0; parked[id] = 0 } }

/* won = CAS(select_done: 0 -> 1) */
inline win(x) {
#if BUG == 1
  won = (done[x] == 0);
  if
  :: won -> done[x] = 1
  :: else
  fi
#else
  d_step {
    won = (done[x] == 0);
    if
    :: won -> done[x] = 1
    :: else
    fi
  }
#endif
}

/* w = the first who really waits, or NONE */
inline queue_pop(q, by_close) {
  w = NONE;
  do
  :: w == NONE && len(q) > 0 ->
    d_step { q?w; queued[w] = 0; assert(frame[G_OF(w)]) }
    if
    :: !is_select[G_OF(w)] || (by_close && BUG == 2) -> break
    :: else ->
      assert(frame[G_OF(w)]);
      win(G_OF(w));
      if
      :: won -> wait[G_OF(w)] = w; break
      :: else ->
        w = NONE;
#if BUG == 9
        break
#endif
      fi
    fi
  :: else -> break
  od;
  won = 0
}

inline chan_send_locked(c, v) {
  wake = NONE;
  if
  :: closed[c] -> r = CLOSED
  :: else ->
    queue_pop(receivers[c], false);
    if
    :: w != NONE ->
      d_step { assert(frame[G_OF(w)]); elem[w] = v; success[w] = 1; wake = G_OF(w); r = DONE; w = NONE }
    :: else ->
      d_step {
        r = (count[c] == CAP -> BLOCKS : DONE);
        if
        :: r == DONE -> slot[c] = v; count[c] = count[c] + 1
        :: else
        fi
      }
    fi
  fi
}

/* x = what was received */
inline chan_recv_locked(c) {
  wake = NONE;
  x = 0;
  queue_pop(senders[c], false);
  if
  :: w != NONE ->
    d_step {
      assert(frame[G_OF(w)]);
      if
      :: count[c] > 0 -> x = slot[c]; slot[c] = elem[w]
      :: else -> x = elem[w]
      fi;
      success[w] = 1;
      wake = G_OF(w);
      r = DONE;
      w = NONE
    }
  :: else ->
    d_step {
      if
      :: count[c] > 0 -> x = slot[c]; slot[c] = 0; count[c] = count[c] - 1; r = DONE
      :: count[c] == 0 && closed[c] -> r = CLOSED
      :: else -> r = BLOCKS
      fi
    }
  fi
}

/* ghost */
inline has_sent(v) { d_step { assert(!sent[v]); sent[v] = 1 } }
inline has_got(v) { d_step { assert(v != 0 && !got[v]); got[v] = 1 } }

inline wake_up() {
  if
  :: wake != NONE -> g_ready(wake); wake = NONE
  :: else
  fi
}

/* With the lock of c.  r = why it was woken */
inline wait_in(c, q, v) {
  d_step { frame[id] = 1; is_select[id] = 0; elem[W(id, 0)] = v; success[W(id, 0)] = 0 }
#if BUG == 5
  parked[id] = 1;
  drop(c);
  d_step { queued[W(id, 0)] = 1; q!W(id, 0); wait[id] = W(id, 0) }
#else
  d_step { queued[W(id, 0)] = 1; q!W(id, 0); wait[id] = W(id, 0); parked[id] = 1 }
  drop(c); /* the commit: its last touch */
#endif
  until_ready();
  d_step { r = (success[W(id, 0)] -> DONE : CLOSED); x = elem[W(id, 0)]; frame[id] = 0; wait[id] = NONE }
}

inline chan_send(c, v) {
  take(c);
  chan_send_locked(c, v);
  if
  :: r == BLOCKS -> wait_in(c, senders[c], v)
  :: else -> drop(c); wake_up()
  fi;
  assert(r == DONE); /* nobody here sends on what may be closed */
  has_sent(v)
}

inline chan_recv(c) {
  take(c);
  chan_recv_locked(c);
  if
  :: r == BLOCKS -> wait_in(c, receivers[c], 0)
  :: else -> drop(c); wake_up()
  fi;
  if
  :: r == DONE -> has_got(x)
  :: else
  fi
}

/* r = DONE, CLOSED or BLOCKS */
inline chan_try_send(c, v) {
  bit seems_full, seems_closed;
#if BUG == 12
  seems_closed = closed[c];
  seems_full = (CAP == 0 -> len(receivers[c]) == 0 : count[c] == CAP);
#else
  seems_full = (CAP == 0 -> len(receivers[c]) == 0 : count[c] == CAP);
  seems_closed = closed[c];
#endif
  if
  :: seems_full && !seems_closed -> r = BLOCKS
  :: else ->
    take(c);
    chan_send_locked(c, v);
    drop(c);
    wake_up()
  fi;
  if
  :: r == DONE -> has_sent(v)
  :: else
  fi
}

/* The list of those to be woken is theirs, hence all[]. */
inline chan_close(c) {
  byte all[3], n, k;
  take(c);
#if BUG != 11
  closed[c] = 1;
#endif
  do
  :: queue_pop(receivers[c], true);
    if
    :: w != NONE -> d_step { assert(frame[G_OF(w)]); elem[w] = 0; success[w] = 0; all[n] = G_OF(w); n++ }
    :: else -> break
    fi
  od;
#if BUG == 11
  closed[c] = 1;
#endif
  drop(c);
  do
  :: k < n -> g_ready(all[k]); k++
  :: else -> break
  od;
  atomic { n = 0; k = 0; all[0] = 0; all[1] = 0; all[2] = 0 }
}

/* --- select --- */

#define HAS(g, c) (cc[W(g, 0)] == (c) || cc[W(g, 1)] == (c))
#define FIRST(g) (HAS(g, 0) -> 0 : 1) /* chans[0] */

inline unlock_all(g) {
  if
  :: HAS(g, 1) -> drop(1)
  :: else
  fi;
  if
  :: HAS(g, 0) -> drop(0)
  :: else
  fi
}

/* The commit of a select: on the stack that the G has left to. */
proctype commits(byte g) {
  bit c, two;
end:
  do
  :: atomic { committing[g] -> committing[g] = 0; assert(frame[g]); c = HAS(g, 1); two = HAS(g, 0) && HAS(g, 1) }
    drop(c);
    if
    :: two -> assert(frame[g]); drop(0)
    :: else
    fi;
#if BUG == 3
    assert(frame[g]);
#endif
    atomic { c = 0; two = 0 }
  od
}

proctype timer(byte g) {
  byte c;
  bit won;
  mtype old;
end:
  do
  :: atomic { timer_armed[g] -> timer_armed[g] = 0; c = FIRST(g) }
    assert(frame[g]);
#if BUG != 7
    take(c);
#endif
    win(g);
#if BUG != 7
    drop(c);
#endif
    if
    :: won -> wait[g] = NONE; g_ready(g)
    :: else ->
      assert(frame[g]);
      atomic { old = timer_state[g]; timer_state[g] = OVER }
      if
      :: old == AWAITED -> g_ready(g)
      :: else
      fi
    fi
  od
}

/* Case i, with the lock of its channel: r */
inline do_case(i) {
  if
  :: cc[W(id, i)] == NONE -> r = BLOCKS
  :: cc[W(id, i)] != NONE && cop[W(id, i)] == SEND -> chan_send_locked(cc[W(id, i)], id + 1)
  :: else -> chan_recv_locked(cc[W(id, i)])
  fi
}

inline push_case(i) {
  d_step {
    if
    :: cc[W(id, i)] == NONE
    :: else ->
      queued[W(id, i)] = 1;
      success[W(id, i)] = 0;
      elem[W(id, i)] = (cop[W(id, i)] == SEND -> id + 1 : 0);
      if
      :: cop[W(id, i)] == SEND -> senders[cc[W(id, i)]]!W(id, i)
      :: else -> receivers[cc[W(id, i)]]!W(id, i)
      fi
    fi
  }
}

inline leave_case(i) {
  if
  :: cc[W(id, i)] == NONE
#if BUG == 4
  :: cc[W(id, i)] != NONE && !queued[W(id, i)]
#endif
  :: else ->
    take(cc[W(id, i)]);
    d_step {
      if
      :: !queued[W(id, i)]
      :: queued[W(id, i)] && cop[W(id, i)] == SEND -> senders[cc[W(id, i)]]??eval(W(id, i)); queued[W(id, i)] = 0
      :: else -> receivers[cc[W(id, i)]]??eval(W(id, i)); queued[W(id, i)] = 0
      fi
    }
    drop(cc[W(id, i)])
  fi
}

/* i = the case that was done, NONE: the time is over; r; x.  Case first is looked at first. */
inline do_select(timed) {
  if
  :: first = 0
  :: first = 1
  fi;
#if BUG == 6
  i = first;
  if
  :: cc[W(id, i)] != NONE -> take(cc[W(id, i)]); do_case(i); drop(cc[W(id, i)])
  :: else -> r = BLOCKS
  fi;
  if
  :: r == BLOCKS ->
    i = 1 - first;
    if
    :: cc[W(id, i)] != NONE -> take(cc[W(id, i)]); do_case(i); drop(cc[W(id, i)])
    :: else
    fi
  :: else
  fi;
  if
  :: r == BLOCKS -> take(0); take(1)
  :: else
  fi;
#else
  if
  :: HAS(id, 0) -> take(0)
  :: else
  fi;
  if
  :: HAS(id, 1) -> take(1)
  :: else
  fi;
  i = first;
  do_case(i);
  if
  :: r == BLOCKS -> i = 1 - first; do_case(i)
  :: else
  fi;
  if
  :: r != BLOCKS -> unlock_all(id)
  :: else
  fi;
#endif
  if
  :: r != BLOCKS -> wake_up()
  :: else -> /* wait_in_all */
    d_step { frame[id] = 1; is_select[id] = 1 }
    push_case(first);
    push_case(1 - first);
    d_step {
      wait[id] = NONE;
#if BUG != 10
      done[id] = 0;
#endif
      if
      :: timed -> timer_state[id] = ARMED; timer_armed[id] = 1
      :: else
      fi
    }
    d_step { parked[id] = 1; committing[id] = 1 }
#if BUG == 10
    done[id] = 0;
#endif
    until_ready();
    w = wait[id];
    wait[id] = NONE;
    if
    :: w != NONE && timed -> /* stop_timer */
      d_step { won = timer_armed[id]; timer_armed[id] = 0 }
#if BUG != 8
      if
      :: !won ->
        d_step { /* g_park(await_timer) */
          if
          :: timer_state[id] == ARMED -> timer_state[id] = AWAITED; parked[id] = 1
          :: else
          fi
        }
        if
        :: parked[id] -> until_ready()
        :: else
        fi
      :: else
      fi;
#endif
      won = 0
    :: else
    fi;
    leave_case(first);
    leave_case(1 - first);
    d_step {
      assert(done[id] == 1 && !(success[W(id, 0)] && success[W(id, 1)]));
      if
      :: w == NONE -> i = NONE; r = BLOCKS; assert(!success[W(id, 0)] && !success[W(id, 1)])
      :: else -> i = w % 2; r = (success[w] -> DONE : CLOSED); x = elem[w]; assert(!success[W(id, 1 - i)]); w = NONE
      fi;
      success[W(id, 0)] = 0;
      success[W(id, 1)] = 0;
      frame[id] = 0
    }
  fi;
  if
  :: r == DONE && cop[W(id, i)] == SEND -> has_sent(id + 1)
  :: r == DONE && cop[W(id, i)] == RECV -> has_got(x)
  :: else
  fi
}

#define VARS        \
  byte w = NONE, wake = NONE, x, i, first; \
  mtype r;          \
  bit won

/* Receives from both channels, n times or until both are through. */
proctype selects(byte id; byte n; bit timed) {
  VARS;
  d_step { cc[W(id, 0)] = 0; cc[W(id, 1)] = 1; cop[W(id, 0)] = RECV; cop[W(id, 1)] = RECV }
  do
  :: n > 0 ->
    n--;
    do_select(timed);
    if
    :: r == CLOSED -> cc[W(id, i)] = NONE /* as in Go: a case is switched off */
    :: else
    fi
  :: else -> break
  od;
  atomic { i = 0; x = 0; ended++ }
}

/* Once: sends on one, receives from the other, which may be the same. */
proctype either(byte id; byte to; byte from) {
  VARS;
  d_step { cc[W(id, 0)] = to; cc[W(id, 1)] = from; cop[W(id, 0)] = SEND; cop[W(id, 1)] = RECV }
  do_select(false);
  assert(r == DONE);
  ended++
}

proctype sends(byte id; byte c) {
  VARS;
  chan_send(c, id + 1);
  ended++
}

proctype tries(byte id; byte c) {
  VARS;
  chan_try_send(c, id + 1);
#ifdef TRY
  assert(r != BLOCKS); /* first somebody waited there, and then it was closed */
#endif
  ended++
}

proctype receives(byte id; byte c) {
  VARS;
  chan_recv(c);
  ended++
}

proctype closes(byte id; byte c) {
  VARS;
  chan_close(c);
  ended++
}

/* When nothing moves any more. */
proctype at_the_end(byte n) {
  byte v;
end:
  timeout ->
  d_step {
    assert(ended == n);
    for (v : 1 .. 4) {
      assert(sent[v] == (got[v] || (count[0] && slot[0] == v) || (count[1] && slot[1] == v)));
      assert(!got[v] || sent[v])
    }
    assert(len(receivers[0]) + len(receivers[1]) + len(senders[0]) + len(senders[1]) == 0);
    assert(!timer_armed[0] && !timer_armed[1] && !timer_armed[2])
  }
}

init {
  atomic {
    run commits(0);
#if defined(PAIR)
    run commits(1);
    run either(0, 0, 1);
    run either(1, 1, 0);
    run at_the_end(2)
#elif defined(SAME)
    run commits(1);
    run either(0, 0, 0);
    run either(1, 0, 0);
    run at_the_end(2)
#elif defined(TIMER)
    run timer(0);
    run selects(0, 1, true);
#ifdef CLOSE
    run closes(1, 0);
#else
    run tries(1, 0);
#endif
    run tries(2, 1);
    run at_the_end(3)
#elif defined(TRY)
    run receives(0, 0)
  }
  parked[0] && !lock[0];
  atomic {
    run closes(1, 0);
    run tries(2, 0);
    run at_the_end(3)
#elif defined(CLOSE)
    run selects(0, 2, false);
    run receives(1, 0);
    run closes(1, 0); /* has no waiter of its own */
    run sends(2, 1);
    run at_the_end(4)
#else
    run selects(0, 2, false);
    run sends(1, 0);
    run sends(2, 1);
    run at_the_end(3)
#endif
  }
}
