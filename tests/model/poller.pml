/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of who sleeps in netpoll, and of pqs that are lost (shim/core/carrier.c, monitor.c).  light.pml has the store buffers between making a G
 * runnable and going idle; here memory is the same for all, what is done under light.lock is one step, and there are several pqs and carriers.
 *
 *   outside   readies Gs globally (ready_from_outside)
 *   a G       ends, or first: spawns; waits for a descriptor; is in a wrapped call; is blocked outside of any; computes.  The last three
 *             may last for ever, so what waits for others must not wait for it
 *   carrier   find, find_own, find_elsewhere, go_idle, lie_down, poll_and_come_back, make_spare; the names are those of carrier.c
 *   monitor   looks as long as a pq is in use, without any clock: the most impatient that there can be.  Sleeps for good when all are idle, until kicked
 *   world     makes descriptors ready that Gs wait for
 *
 * A carrier that looks is held, and loses its pq only where it is not: in make_spare (the thread that it makes may wait for a lock of any G that
 * is queued).  A smaller quota takes Ps away, no pq: the carrier then waits for a P wherever it passes the gate, which is a step like any other here.
 *
 * SLOW   the monitor stops no G for the sake of descriptors alone.  That mends, a slice later, what is forgotten elsewhere; it is also what helps the first
 *        G that waits for a descriptor, where its P goes on to one that computes: who lay down before that does not poll.
 *
 * Left out   timers (nobody_polls treats them as descriptors); `later`; runnext; births (there are carriers enough)
 * Promises   when nothing moves any more, no G is queued and no edge is left in epoll, whoever is blocked or computes for ever; who uses
 *            a pq is its only owner; one at a time sleeps in netpoll; nspinning counts who looks; SLOW: a poller that takes a pq has a successor
 *
 * optimize: 0
 * holds: -DGS=1 -DNC=3 -DSPAWNS=1
 * holds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1
 * holds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCOMPUTES=1
 * holds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DOUTS=1 -DSPARES=1
 * holds: -DGS=1 -DNP=1 -DSPAWNS=2 -DWAITS=0 -DOUTS=1 -DCOMPUTES=1
 * holds: -DGS=0 -DARMED=2 -DNC=3 -DWAITS=0 -DCOMPUTES=1 -DSLOW
 * finds: -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1 -DBUG=1  the carrier does not look again when it has lain down
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1 -DBUG=2  nobody lies down in netpoll
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1 -DBUG=3  a pq that is handed off goes idle though nobody polls
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCOMPUTES=1 -DBUG=4  a G that computes is stopped for Gs only, not for descriptors
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1 -DBUG=5  the poller that gets up before it sleeps is still the poller
 * finds: -DGS=0 -DARMED=2 -DNC=3 -DWAITS=0 -DCOMPUTES=1 -DSLOW -DBUG=6  the poller that comes back with a pq does not spin, and so wakes nobody in its place
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DSPARES=1 -DBUG=7  who has lost its pq while it made a thread still counts as spinning
 * finds: -DGS=1 -DNP=1 -DSPAWNS=2 -DWAITS=0 -DOUTS=1 -DCOMPUTES=1 -DBUG=8  who comes back and takes an idle pq does not kick the monitor
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=2 -DBUG=9  who comes back from a call does not look whose call the pq is in
 * finds: -DGS=1 -DNP=1 -DNC=3 -DSPAWNS=1 -DOUTS=1 -DBUG=10  who was blocked outside of a wrapper does not look whether it has lost its pq
 * finds: -DNP=1 -DNC=3 -DSPAWNS=1 -DCALLS=1 -DBUG=11  a pq is given to the poller without a break of its sleep
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NC
#define NC 4
#endif
#ifndef GS
#define GS 2 /* from outside */
#endif
#ifndef CALLS
#define CALLS 0
#endif
#ifndef OUTS
#define OUTS 0
#endif
#ifndef COMPUTES
#define COMPUTES 0
#endif
#ifndef WAITS
#define WAITS 1
#endif
#ifndef ARMED
#define ARMED 0 /* Gs that wait at the beginning */
#endif
#ifndef SPAWNS
#define SPAWNS 0
#endif
#ifndef SPARES
#define SPARES 0
#endif
#define NONE 7

#define IDLE 0
#define RUNNING 1
#define SYSCALL 2 /* of owner */
#define TAKEN 3

/* How often Gs may still do what. */
byte calls = CALLS, outs = OUTS, computes = COMPUTES, waits = WAITS, spawns = SPAWNS, spares = SPARES;

byte status[NP], owner[NP] = NONE, queue[NP];
byte global;
byte wired = NONE; /* the carrier whose preempted G is in the global queue */
byte nspinning;
byte poller = NONE;
bool listed[NC];    /* in light.idle */
byte pq[NC] = NONE;
bool spinning[NC];
bool away[NC];      /* blocked, in no wrapper, and not held */
bool lost[NC];
bool computing[NC], preempt[NC];
byte armed = ARMED, ready; /* Gs that wait for a descriptor: no edge yet; edges that epoll has */
bool broken;        /* netpoll_break */
bool overdue;       /* nobody has polled for a slice */
bool asleep;        /* the monitor, for good */
byte in_netpoll;    /* ghost */
bool duty;          /* ghost: the poller has come back and taken a pq, though Gs wait and another pq is idle */

#define WAITERS (armed + ready > 0)
#define NOBODY_POLLS (poller == NONE && WAITERS)
#define NGLOBAL (global > 0 || wired != NONE)
#if NP == 1
#define ALL_RUN (status[0] == RUNNING)
#define ALL_IDLE (status[0] == IDLE)
#define ANY_IDLE ALL_IDLE
#define ANYTHING (NGLOBAL || queue[0])
#else
#define ALL_RUN (status[0] == RUNNING && status[1] == RUNNING)
#define ALL_IDLE (status[0] == IDLE && status[1] == IDLE)
#define ANY_IDLE (status[0] == IDLE || status[1] == IDLE)
#define ANYTHING (NGLOBAL || queue[0] || queue[1])
#endif
#define WANTED(p) (queue[p] > 0 || NGLOBAL || NOBODY_POLLS) /* carrier_wanted */
#define PQ pq[me]
#define OWNS (status[PQ] == RUNNING && owner[PQ] == me)

/* --- under the lock: parts of a step --- */

inline pq_give(p, c) {
  assert(pq[c] == NONE);
  owner[p] = c;
  status[p] = RUNNING;
  pq[c] = p
}

inline idle_pq_put(p) {
  status[p] = IDLE;
  owner[p] = NONE
}

inline idle_pq_claim(c) {
  if
  :: status[0] == IDLE -> pq_give(0, c)
#if NP > 1
  :: status[0] != IDLE && status[1] == IDLE -> pq_give(1, c)
#endif
  :: else
  fi
}

/* Into `to`.  A service thread can't break the poller's sleep. */
inline idle_carrier_take(service) {
  if
  :: listed[0] -> to = 0
  :: !listed[0] && listed[1] -> to = 1
#if NC > 2
  :: !listed[0] && !listed[1] && listed[2] -> to = 2
#endif
#if NC > 3
  :: !listed[0] && !listed[1] && !listed[2] && listed[3] -> to = 3
#endif
#if NC > 4
  :: !listed[0] && !listed[1] && !listed[2] && !listed[3] && listed[4] -> to = 4
#endif
  :: else ->
    if
    :: poller != NONE && !service -> to = (pq[poller] == NONE -> poller : NONE)
    :: else -> to = NONE
    fi
  fi;
  if
  :: to != NONE -> listed[to] = false
  :: else
  fi
}

#if BUG == 11
inline rouse(c) { skip }
#else
inline rouse(c) { broken = broken || c == poller }
#endif

/* --- waking --- */

inline carrier_wake_idle(service) {
  d_step { /* the look and the CAS; the pq may be gone before the lock is taken */
    won = ANY_IDLE && nspinning == 0;
    nspinning = (won -> 1 : nspinning)
  }
  if
  :: won -> /* carrier_wakep */
    d_step {
      won = false;
      to = NONE;
      if
      :: ANY_IDLE -> idle_carrier_take(service)
      :: else
      fi;
      if
      :: to != NONE ->
        spinning[to] = true;
        idle_pq_claim(to);
        rouse(to)
      :: else -> nspinning--
      fi;
      to = NONE;
      asleep = false /* monitor_kick */
    }
  :: else
  fi
}

inline carrier_handoff(p, service) {
  d_step {
    to = NONE;
    if
#if BUG == 3
    :: queue[p] > 0 || NGLOBAL -> idle_carrier_take(service)
#else
    :: WANTED(p) -> idle_carrier_take(service)
#endif
    :: else
    fi;
    if
    :: to != NONE ->
      pq_give(p, to);
      rouse(to);
      asleep = false
    :: else -> idle_pq_put(p)
    fi;
    to = NONE
  }
}

/* p in the call that was seen */
inline carrier_retake(p, service) {
  d_step {
    won = status[p] == SYSCALL;
    status[p] = (won -> TAKEN : status[p])
  }
  if
  :: won -> won = false; carrier_handoff(p, service)
  :: else
  fi
}

inline carrier_wake_global() {
  if
  :: ANY_IDLE -> carrier_wake_idle(false)
  :: !ANY_IDLE && status[0] == SYSCALL -> carrier_retake(0, false)
#if NP > 1
  :: !ANY_IDLE && status[1] == SYSCALL -> carrier_retake(1, false)
#endif
  :: else
  fi
}

/* --- looking for a G: `got` --- */

/* runq_get or runq_steal */
inline take_from(p) {
  queue[p]--;
  got = true
}

inline global_get() {
  got = true;
  if
  :: global > 0 ->
    global--;
    if
    :: global > 0 -> queue[PQ]++; global--
    :: else
    fi
  :: else -> run_wired = wired; wired = NONE
  fi
}

/* take_list's wake-up comes with end_spinning. */
inline poll_now() {
  got = ready > 0;
  more = ready > 1;
  queue[PQ] = queue[PQ] + (got -> ready - 1 : 0);
  ready = 0;
  duty = duty && armed > 0;
  overdue = false
}

inline begin_spinning() {
  nspinning = nspinning + (spinning[me] -> 0 : 1);
  spinning[me] = true
}

inline stop_spinning() {
  nspinning = nspinning - (spinning[me] -> 1 : 0);
  spinning[me] = false
}

/* After being away: carrier_hold, carrier_regain. */
inline hold() {
  if
  :: lost[me] ->
    lost[me] = false;
    if
    :: owner[PQ] != me ->
      PQ = NONE;
      idle_pq_claim(me);
#if BUG != 8
      if
      :: PQ != NONE -> asleep = false
      :: else
      fi
#endif
    :: else
    fi
  :: else
  fi
}

proctype carrier(byte me) {
  byte to = NONE, list, run_wired = NONE;
  bool won, got, more, polls, up;
  if
  :: me == 0 && ARMED > 0 -> goto idle_wait
  :: else -> goto end_on_list
  fi;
find:
  if
  :: PQ == NONE -> goto idle_wait
  :: d_step { PQ != NONE && spares > 0 -> spares--; away[me] = true } /* make_spare */
    !ANYTHING; /* it may need the lock of any of those */
    away[me] = false;
    d_step {
      hold();
#if BUG != 7
      if
      :: PQ == NONE -> stop_spinning()
      :: else
      fi
#endif
    }
    if
    :: PQ == NONE -> goto idle_wait
    :: else
    fi
  :: PQ != NONE
  fi;
  d_step { /* find_own, and the first of find_elsewhere: what others do in between is as if it were before or after */
    assert(OWNS);
    if
    :: overdue && NOBODY_POLLS -> poll_now()
    :: else
    fi;
    if
    :: !got && queue[PQ] > 0 -> take_from(PQ)
    :: !got && queue[PQ] == 0 && NGLOBAL -> global_get()
    :: !got && queue[PQ] == 0 && !NGLOBAL -> poll_now()
    :: else
    fi
  }
  if
  :: got -> goto runs
#if NP > 1
  :: !got && (spinning[me] || nspinning == 0) ->
    d_step { begin_spinning() }
    d_step {
      if
      :: queue[1 - PQ] > 0 -> take_from(1 - PQ)
      :: queue[1 - PQ] == 0 && NGLOBAL -> global_get()
      :: else
      fi
    }
    if
    :: got -> goto runs
    :: else
    fi
#endif
  :: else
  fi;
  d_step { /* go_idle; its glance is left out, for lie_down looks for good */
    if
    :: !NGLOBAL ->
      idle_pq_put(PQ);
      PQ = NONE;
      stop_spinning()
    :: else
    fi
  }
  goto find;

idle_wait: /* lie_down */
  atomic {
#if BUG == 2
    polls = false;
#else
    polls = NOBODY_POLLS && !ALL_RUN;
#endif
    if
    :: polls -> poller = me; duty = false
    :: else -> listed[me] = true
    fi
  }
  if
#if BUG != 1
  :: ANYTHING -> /* get_up */
    d_step {
      if
      :: PQ == NONE ->
        idle_pq_claim(me);
        if
        :: PQ != NONE -> listed[me] = false
        :: else
        fi
      :: else
      fi;
      up = PQ != NONE;
      if
      :: up ->
#if BUG != 5
        poller = (polls -> NONE : poller);
#endif
        begin_spinning();
        asleep = false
      :: else
      fi
    }
    if
    :: up -> up = false; goto find
    :: else
    fi
#endif
  :: else
  fi;
  if
  :: polls -> goto netpoll
  :: else
  fi;
end_on_list: /* sleep_on */
  PQ != NONE;
  goto find;

netpoll: /* poll_and_come_back */
  polls = false;
  in_netpoll++;
  assert(in_netpoll == 1 && poller == me);
end_netpoll:
  ready > 0 || broken;
  d_step {
    list = ready;
    ready = 0;
    broken = false;
    overdue = false;
    in_netpoll--
  }
  if
  :: list > 0 && !ANY_IDLE -> /* leave_to_others */
    d_step { global = global + list; list = 0 }
    carrier_wake_global()
  :: else
  fi;
  d_step {
    poller = NONE;
    if
    :: PQ == NONE ->
      idle_pq_claim(me);
      if
      :: PQ == NONE && (list > 0 || NGLOBAL) -> /* pq_from_call */
        if
        :: status[0] == SYSCALL -> pq_give(0, me)
#if NP > 1
        :: status[0] != SYSCALL && status[1] == SYSCALL -> pq_give(1, me)
#endif
        :: else
        fi
      :: else
      fi
    :: else
    fi;
    if
    :: PQ == NONE -> global = global + list
    :: else ->
#if BUG != 6
      begin_spinning();
#endif
      queue[PQ] = queue[PQ] + list;
      duty = WAITERS && ANY_IDLE;
      asleep = false
    fi;
    list = 0
  }
  goto find;

runs:
  atomic {
    got = false;
    won = (spinning[me] && nspinning == 1) || more; /* end_spinning, or take_list */
    more = false;
    stop_spinning()
  }
  if
  :: won -> carrier_wake_idle(false)
  :: else
  fi;
  if
  :: run_wired != NONE -> /* carrier_run_wired */
    d_step {
      assert(OWNS);
      to = PQ;
      PQ = NONE;
      pq_give(to, run_wired);
      to = NONE;
      run_wired = NONE
    }
    goto idle_wait
  :: else
  fi;

goes_on: /* the G */
  if
  :: goto find /* ends */
  :: d_step { waits > 0 -> waits--; armed++ } /* netpoll_wait */
    goto find
  :: d_step { spawns > 0 -> spawns-- }
    if
    :: PQ == NONE -> global++; carrier_wake_global()
    :: else -> assert(OWNS); queue[PQ]++; carrier_wake_idle(false)
    fi;
    goto goes_on
  :: d_step { calls > 0 && PQ != NONE -> calls--; assert(OWNS); status[PQ] = SYSCALL } /* carrier_gate_enter */
    if
    :: true
    :: true ->
end_call: false
    fi;
    d_step { /* carrier_gate_exit */
#if BUG == 9
      won = status[PQ] == SYSCALL;
#else
      won = status[PQ] == SYSCALL && owner[PQ] == me;
#endif
      if
      :: won -> status[PQ] = RUNNING
      :: else -> PQ = NONE
      fi
    }
    if
    :: won -> won = false; goto goes_on
    :: else
    fi;
    d_step {
      idle_pq_claim(me);
      if
      :: PQ != NONE -> asleep = false
      :: else
      fi
    }
    if
    :: PQ != NONE -> goto goes_on
    :: else
    fi;
    global++; /* LEFT_GLOBAL */
    carrier_wake_global();
    goto find
  :: d_step { outs > 0 -> outs--; away[me] = true }
    if
    :: true
    :: true ->
end_away: false
    fi;
    away[me] = false;
#if BUG != 10
    d_step { hold() }
#endif
    goto goes_on
  :: d_step { computes > 0 && PQ != NONE -> computes-- }
computes_on:
    computing[me] = true;
end_computes:
    preempt[me];
    d_step { preempt[me] = false; computing[me] = false } /* carrier_preempted */
    assert(OWNS);
    d_step { list = PQ; PQ = NONE; wired = me }
    carrier_handoff(list, false);
    list = 0;
end_wired: /* wait_wired */
    PQ != NONE;
    if
    :: goto computes_on
    :: goto goes_on
    fi
  fi
}

inline look(p) {
  if
  :: status[p] == SYSCALL -> carrier_retake(p, true)
  :: else ->
    d_step { /* carrier_retake_running */
      if
      :: status[p] == RUNNING && away[owner[p]] && !lost[owner[p]] ->
        lost[owner[p]] = true;
        owner[p] = NONE;
        status[p] = TAKEN;
        won = true
      :: status[p] == RUNNING && computing[owner[p]] ->
        preempt[owner[p]] = true; /* stop */
        overdue = overdue || NOBODY_POLLS
      :: else
      fi
    }
    if
    :: won -> won = false; carrier_handoff(p, true)
    :: else
    fi
  fi
}

#if BUG == 4 || defined(SLOW)
#define TO_STOP(p) (queue[p] > 0 || NGLOBAL)
#else
#define TO_STOP(p) WANTED(p)
#endif
#define TO_DO(p) \
  ((WANTED(p) && (status[p] == SYSCALL || (status[p] == RUNNING && away[owner[p]]))) || \
   (TO_STOP(p) && status[p] == RUNNING && computing[owner[p]] && !preempt[owner[p]]))

proctype monitor() {
  byte to = NONE;
  bool won;
end:
  do
  :: d_step { !asleep && ALL_IDLE && !NGLOBAL -> asleep = true }
  :: !asleep && TO_DO(0) -> look(0)
#if NP > 1
  :: !asleep && TO_DO(1) -> look(1)
#endif
  od
}

proctype outside() {
  byte to = NONE, i;
  bool won;
  do
  :: i < GS -> i++; global++; carrier_wake_global()
  :: else -> break
  od
}

proctype world() {
end:
  do
  :: d_step { armed > 0 -> armed--; ready++ }
  od
}

/* When nothing moves any more. */
proctype at_the_end() {
end_wait:
  timeout ->
  assert(!ANYTHING);
#ifdef SLOW
  assert(!duty || !NOBODY_POLLS || !ANY_IDLE);
#else
  assert(ready == 0);
#endif
  assert(nspinning == 0)
}

init {
  byte i;
  atomic {
    for (i : 0 .. NC - 1) { listed[i] = i > 0 || ARMED == 0; run carrier(i) };
    i = 0;
    run monitor();
    run outside();
    run world();
    run at_the_end()
  }
}
