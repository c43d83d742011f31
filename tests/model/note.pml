/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of a note that a thread's G waits for (shim/sync/lot.c: note_wait, note_commit, note_set, wake_parked; core/light.c: thread_park, thread_readied), where handlers run on that
 * thread, and end with a wake-up for nothing (free/kill.c: free_handler_ends), for what they waited for themselves may have had that of the note.
 *
 *   waiter    until the note says SET: 0 -> PARKED, and sleeps until `wake` is READIED, which it clears.  Then the note is gone, and the next one lies in its place
 *   handler   on the waiter's thread, wherever it is: takes the wake-up that is there, or not; at the end wake = READIED
 *   setter    PARKED -> WAKING, the G from the note, wake = READIED, SET, and the futex; or 0 -> SET
 *
 * Promises   the setter touches no note that is gone; each note's setter finds it; a note's wake-up does not come when the thread waits for something else (here: at the end
 *            of each wait there is none); nobody is left asleep (invalid end state).
 *
 * optimize: 0
 * holds:
 * finds: -DBUG=1  PARKED -> SET at once, and then the G is read: as it was, until a waiter's memory was another's
 * finds: -DBUG=2  the G is read before, but readied after SET
 * finds: -DBUG=3  the waiter does not clear what has come for nothing
 * finds: -DBUG=4  a waiter that finds WAKING parks again
 * finds: -DBUG=5  the handler's end wakes nobody
 */
#ifndef BUG
#define BUG 0
#endif
#define ROUNDS 2

mtype = { ZERO, PARKED, WAKING, SET };
mtype note = ZERO;
bit stands;       /* ghost: the waiter of this note is on its stack */
byte round;       /* ghost: which note it is */
byte wake;        /* 0, 1: READIED */
byte handlers = 2; /* so many may still come */
bit in_note;      /* g->note */

/* What a handler does, if one comes here. */
inline handled() {
  if
  :: handlers > 0 -> atomic {
       handlers--;
       if
       :: wake = 0 /* it has waited, and had what there was */
       :: skip
       fi;
#if BUG != 5
       if
       :: in_note -> wake = 1
       :: else
       fi
#endif
     }
  :: skip
  fi
}

active proctype waiter() {
  mtype is;
  bit parks;
  do
  :: round < ROUNDS ->
     atomic { note = ZERO; stands = 1 }
     do
     :: is = note;
        if
        :: is == SET -> break
#if BUG != 4
        :: is == WAKING -> note != WAKING /* it yields until then */
#endif
        :: else ->
           in_note = 1;
           handled();
           atomic { /* note_commit */
             if
             :: note == ZERO -> note = PARKED; parks = 1
             :: note == PARKED -> parks = 1
#if BUG == 4
             :: note == WAKING -> parks = 1
#endif
             :: else -> parks = 0
             fi
           }
           if
           :: parks ->
              do
              :: wake == 1 -> break
              :: wake == 0 && handlers > 0 -> handled() /* the futex returns */
              od;
              wake = 0
           :: else
           fi;
           handled();
           in_note = 0
        fi
     od;
#if BUG != 3
     wake = 0;
#endif
     assert(wake == 0);
     atomic { stands = 0; round++ }
  :: else -> break
  od;
  assert(wake == 0)
}

active proctype setter() {
  mtype was;
  byte mine;
  do
  :: mine < ROUNDS ->
     stands && round == mine; /* it was queued, and taken out */
#if BUG == 1 || BUG == 2
     atomic { was = note; note = SET }
     if
     :: was == PARKED ->
#if BUG == 1
        assert(stands && round == mine); /* n->g */
#endif
        wake = 1
     :: else
     fi;
#else
     atomic {
       was = note;
       if
       :: was == PARKED -> note = WAKING
       :: else -> note = SET
       fi
     }
     if
     :: was == PARKED ->
        assert(stands && round == mine); /* n->g */
        wake = 1;
        assert(stands && round == mine);
        note = SET
     :: else
     fi;
#endif
     mine++
  :: else -> break
  od
}
