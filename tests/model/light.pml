/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of going idle against making a G runnable (shim/core/carrier.c go_idle, lie_down, carrier_wakep; light.c).
 *
 *   producer  puts a G into its P's queue, looks whether a pq is idle and nobody searches, and wakes a carrier if so; it never runs
 *             the G itself, and no fence stands between the two.  A second one queues globally, under the lock.
 *   carrier   searches (steals); finds nothing; marks its pq idle; lies down where wakers find it; makes the others pass a fence;
 *             looks again; gets up, or sleeps until it is given the pq
 *
 * The producer's store is in a store buffer that drains at any time later, or when the carrier's membarrier passes.
 *
 * Promises   no G waits while the pq is idle and the carrier sleeps; the pq has one holder; nspinning counts who searches.
 *
 * optimize: 0
 * holds:
 * finds: -DBUG=1  no fence between lying down and looking again
 * finds: -DBUG=2  the fence and the last look come before lying down: who finds no carrier to wake has left meanwhile
 * finds: -DBUG=3  who finds no carrier to wake leaves nspinning at 1
 * finds: -DBUG=4  the carrier does not look again at all
 * finds: -DBUG=5  the carrier gets up though it has just been given the pq
 */
#ifndef BUG
#define BUG 0
#endif
#define ROUNDS 3

bit lock;
byte queue, buffered; /* Gs in the producer's queue; those that others don't see yet */
byte global;
bit idle;         /* the carrier's pq is idle */
byte nspinning = 1;
bit listed;       /* the carrier is in the idle list */
bit given;        /* it was given the pq */
byte ran;
byte holders = 1; /* ghost: of the pq */

inline take() { atomic { lock == 0 -> lock = 1 } }
inline drop() { lock = 0 }

/* Whoever made a G runnable. */
inline wake_idle() {
  if
  :: idle && nspinning == 0 ->
    bit won = 0;
    atomic { /* a CAS that releases, and the lock after it: what was stored before is seen by whoever takes the lock next */
      if
      :: nspinning == 0 -> nspinning = 1; won = 1; queue = queue + buffered; buffered = 0
      :: else
      fi
    }
    if
    :: won ->
      take();
      if
      :: idle && listed ->
        idle = 0;
        listed = 0;
        holders++;
        assert(holders == 1);
        given = 1
      :: else ->
#if BUG != 3
        nspinning--
#endif
      fi;
      drop()
    :: else
    fi
  :: else
  fi
}

active proctype producer() {
  byte i;
  for (i : 1 .. ROUNDS) {
    buffered++;
    wake_idle()
  }
}

active proctype outside() {
  take();
  global++;
  drop();
  wake_idle()
}

active proctype drains() {
end:
  do
  :: atomic { buffered > 0 -> queue = queue + buffered; buffered = 0 }
  od
}

bit found;
inline search() {
  found = 0;
  atomic {
    if
    :: queue > 0 -> queue--; ran++; found = 1
    :: else
    fi
  }
  if
  :: !found ->
    take();
    if
    :: global > 0 -> global--; ran++; found = 1
    :: else
    fi;
    drop()
  :: else
  fi
}

active proctype carrier() {
  bit again, spins = 1;
  do
  :: search();
    if
    :: found ->
      if
      :: spins -> spins = 0; nspinning--
      :: else
      fi
    :: else ->
      if
      :: !spins -> spins = 1; nspinning++
      :: else
      fi;
      search();
      if
      :: found -> spins = 0; nspinning--
      :: else ->
        /* go_idle */
        take();
        if
        :: global > 0 -> drop()
        :: else ->
          holders--;
          idle = 1;
          spins = 0;
          nspinning--;
          drop();
#if BUG == 2
          atomic { queue = queue + buffered; buffered = 0 };
          again = queue > 0 || global > 0;
#endif
          /* lie_down */
          take();
          listed = 1;
          drop();
#if BUG != 1 && BUG != 2
          atomic { queue = queue + buffered; buffered = 0 }; /* membarrier */
#endif
#if BUG == 4
          again = 0;
#elif BUG != 2
          again = queue > 0 || global > 0;
#endif
          if
          :: again ->
            take();
            if
#if BUG == 5
            :: true -> idle = 0; listed = 0; holders++; assert(holders == 1); spins = 1; nspinning++
#else
            :: given -> given = 0; spins = 1
            :: !given && idle -> idle = 0; listed = 0; holders++; assert(holders == 1); spins = 1; nspinning++
            :: !given && !idle
#endif
            fi;
            drop()
          :: else
          fi;
          if
          :: !spins ->
end_sleep:  given;
            given = 0;
            spins = 1
          :: else
          fi
        fi
      fi
    fi
  od
}

/* When nothing moves any more. */
active proctype at_the_end() {
end_wait:
  timeout ->
  assert(queue == 0 && buffered == 0 && global == 0);
  assert(ran == ROUNDS + 1);
  assert(nspinning == 0)
}
