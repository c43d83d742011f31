/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of shim/core/runq.c: one owner that puts (some as runnext) and gets, thieves that steal half, and the
 * watcher that asks runq_empty.  A ring of 4, counters that wrap.
 *
 * Three settings, to keep each small: the ring that overflows; with runnext (-DNEXT); runq_empty (-DWATCH).
 *
 * Promises   each G runs exactly once, or is left in a queue in the end; no thief reads an entry that
 *            it did not claim; a queue that never was empty is never said to be.
 *
 * Threads interleave step by step; what the release/acquire pairs forbid is not modelled, but each bug below is
 * what one of them forbids, written as the order of steps that would then be possible.
 *
 * holds:
 * holds: -DNEXT
 * holds: -DWATCH
 * finds: -DBUG=1          a claim that looks and then stores, without CAS
 * finds: -DBUG=2          tail is published before the entry
 * finds: -DBUG=3          the thief claims first and reads then
 * finds: -DWATCH -DBUG=4  runq_empty without the second look at tail
 */
#ifndef BUG
#define BUG 0
#endif
#define SIZE 4
#ifdef NEXT
#define NGS 4
#else
#define NGS 5 /* one more than fit */
#endif
#define NONE 0
#define LEN(h, t) ((256 + (t) - (h)) % 256)

byte head = 254, tail = 254; /* they wrap on the way */
byte ring[SIZE];
byte runnext;
bit ran[NGS + 1];
byte done;   /* processes that have ended */

inline run_g(g) {
  d_step {
    assert(g != NONE);
    assert(ran[g] == 0);
    ran[g] = 1;
    g = NONE
  }
}

/* ok = CAS head h -> h + n */
inline claim(h, n, ok) {
#if BUG == 1
  ok = (head == h);
  if
  :: ok -> head = h + n
  :: else
  fi
#else
  atomic {
    ok = (head == h);
    if
    :: ok -> head = h + n
    :: else
    fi
  }
#endif
}

inline put_tail(g) {
  do
  :: h = head;
    if
    :: LEN(h, tail) < SIZE ->
#if BUG == 2
      tail = tail + 1;
      ring[(tail + 255) % SIZE] = g;
#else
      ring[tail % SIZE] = g;
      tail = tail + 1;
#endif
      break
    :: else -> /* full: the older half and g leave */
      b0 = ring[h % SIZE];
      b1 = ring[(h + 1) % SIZE];
      claim(h, 2, ok);
      if
      :: ok -> run_g(b0); run_g(b1); c = g; run_g(c); break /* out of our sight: counts as run */
      :: else
      fi
    fi
  od
}

/* g = runnext, or the head, or NONE */
inline get(g) {
  g = NONE;
  atomic {
    if
    :: runnext != NONE -> g = runnext; runnext = NONE
    :: else
    fi
  }
  do
  :: g != NONE -> break
  :: else ->
    h = head;
    if
    :: LEN(h, tail) == 0 -> break
    :: else ->
      b0 = ring[h % SIZE];
      claim(h, 1, ok);
      if
      :: ok -> d_step { g = b0; b0 = NONE }
      :: else
      fi
    fi
  od
}

proctype owner() {
  byte i = 1, g, h, b0, b1, c;
  bool ok;
  do
  :: i <= NGS ->
#ifdef NEXT
    atomic { g = runnext; runnext = i }
    if
    :: g != NONE -> put_tail(g)
    :: else
    fi;
#else
    put_tail(i);
#endif
    atomic { i++; h = 0; b0 = 0; b1 = 0; g = 0 }
  :: i > 1 -> get(g);
    if
    :: g != NONE -> run_g(g)
    :: else -> if
      :: i > NGS -> break
      :: else
      fi
    fi
  od;
  done++
}

/* Steals once; runs what it got (its own queue would be owner's code again). */
proctype thief() {
  byte h, t, n, b0, b1, g;
  bool ok;
  do
  :: h = head;
    t = tail;
    n = LEN(h, t) - LEN(h, t) / 2;
    if
    :: n > SIZE / 2 -> skip /* h and t are of different moments: again */
    :: n == 0 -> /* runnext, if nobody else is quicker */
      g = runnext;
      if
      :: g == NONE -> break
      :: g != NONE ->
        atomic {
          ok = (runnext == g);
          if
          :: ok -> runnext = NONE
          :: else
          fi
        }
        if
        :: ok -> run_g(g); break
        :: else
        fi
      fi
    :: else ->
#if BUG != 3
      b0 = ring[h % SIZE];
      b1 = ring[(h + 1) % SIZE];
#endif
      claim(h, n, ok);
#if BUG == 3
      b0 = ring[h % SIZE];
      b1 = ring[(h + 1) % SIZE];
#endif
      if
      :: ok -> run_g(b0);
        if
        :: n == 2 -> run_g(b1)
        :: else
        fi;
        break
      :: else
      fi
    fi
  od;
  done++
}

/* All that is left: each G was run, or is still there, never both. */
proctype auditor() {
  byte g, h;
  byte left[NGS + 1];
  d_step {
    done == 3;
    h = head;
    do
    :: LEN(h, tail) > 0 -> left[ring[h % SIZE]]++; h = h + 1
    :: else -> break
    od;
    left[runnext]++;
    for (g : 1 .. NGS) { assert(ran[g] + left[g] == 1) }
  }
}

inline get_ring(g) {
  h = head;
  g = ring[h % SIZE];
  claim(h, 1, ok);
  assert(ok)
}

/* The kicker of stress_runq.c: at every moment G 1 or G 2 is in the queue. */
proctype kicker() {
  byte k, g, h, b0, b1, c;
  bool ok;
  for (k : 1 .. 3) {
    atomic { g = runnext; runnext = 2 }
    put_tail(g);
    get(g);
    assert(g == 2);
    put_tail(2);
    get(g);
    assert(g == 1);
    runnext = 1;
    get_ring(g);
    assert(g == 2)
  }
  done++
}

proctype watcher() {
  byte h, t;
  bool none;
  do
  :: h = head;
    t = tail;
    none = (runnext == NONE) && LEN(h, t) == 0;
    if
    :: BUG != 4 && tail != t -> skip
    :: else -> assert(!none)
    fi
  :: done == 1 -> break
  od
}

init {
#ifdef WATCH
  runnext = 1;
  atomic { run kicker(); run watcher() }
#else
  atomic { run owner(); run thief(); run thief(); run auditor() }
#endif
}
