/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model of leasing slots of a pool page (proto/pool_page.h, shim/core/lease.c): members that acquire, release, hand
 * over, wait and sleep on their bells, and an owner that expropriates.
 *
 *   waiter     sets its waiting bit;  reads its bell;  tries all slots;  sleeps if the bell is still the same
 *   releaser   frees the slot;  then looks who waits, and rings one of them
 *   rung       tries all slots;  if one is still free and another member waits, rings that one
 *
 * Promises   a slot never has two holders, an expropriated one's late release included; nobody is left asleep and
 *            waiting while a slot is free, whether the others run for ever or not.
 *
 * The last line of the protocol is needed as soon as there are three members and two slots: two
 * releasers may ring the same waiter, which can use only one of the slots (BUG=4).
 *
 * holds:
 * holds: -DEXPROPRIATE
 * finds: -DBUG=1  the releaser looks who waits before the slot is free (no fence)
 * finds: -DBUG=2  the waiter does not try again after it set its bit
 * finds: -DBUG=3  the waiter reads its bell after it tried
 * finds: -DBUG=4  who was rung keeps it for itself
 * finds: -DBUG=5  a member looks for slots handed to it only while it wants one
 * finds: -DEXPROPRIATE -DBUG=6  a release that does not check whose the slot is
 * finds: -DEXPROPRIATE -DBUG=7  the owner expropriates and rings nobody
 */
#ifndef BUG
#define BUG 0
#endif
#define NM 3
#define NS 2
#define NOBODY 255

byte word[NS] = NOBODY; /* the slot: its member, or NOBODY */
bit waiting[NM];
byte bell[NM];
byte holder[NS] = NOBODY; /* ghost: who holds it by right */
byte hog[NM] = NOBODY;    /* ghost: the slot on which that member runs for ever */

inline ring_bell(m) { bell[m] = bell[m] + 1 }

/* who = a member beside id that waits, or NOBODY; bit by bit, as the real one reads word by word */
inline others_wait() {
  who = NOBODY;
  k = 1;
  do
  :: k < NM && who == NOBODY ->
    if
    :: waiting[(id + k) % NM] -> who = (id + k) % NM
    :: else
    fi;
    k++
  :: else -> break
  od;
  k = 0
}

/* s = a slot now ours, or NOBODY */
inline try_slots() {
  s = NOBODY;
  k = 0;
  do
  :: k < NS && s == NOBODY ->
    atomic {
      if
      :: word[k] == NOBODY ->
        assert(holder[k] == NOBODY);
        word[k] = id;
        holder[k] = id;
        s = k
      :: word[k] == id -> s = k /* handed over to us */
      :: else
      fi
    }
    k++
  :: else -> break
  od;
  k = 0
}

/* ok = it was ours to give; 'to' may be NOBODY: free */
inline give(to) {
  atomic {
#if BUG == 6
    ok = true;
#else
    ok = (word[s] == id);
#endif
    if
    :: ok ->
      if
      :: holder[s] == id -> holder[s] = to
      :: else
      fi;
      word[s] = to
    :: else
    fi
  }
}

/* Slot s goes whole to one who waits, or is freed and one who waits is rung. */
inline release() {
  if
  :: others_wait()
  :: BUG != 1 -> who = NOBODY
  fi;
#if BUG == 1
  give(NOBODY);
#else
  give(who);
  if
  :: ok && who == NOBODY -> others_wait()
  :: else
  fi;
#endif
  if
  :: ok && who != NOBODY -> ring_bell(who)
  :: else
  fi;
  atomic { s = NOBODY; who = NOBODY; ok = 0 }
}

/* Slots that were handed to us beside the one that we use go on. */
inline adopt() {
  do
  :: k < NS && (word[k] != id || k == mine) -> k++
  :: k < NS && word[k] == id && k != mine -> s = k; k = 0; release()
  :: k == NS -> k = 0; break
  od
}

/* A slot that is free is somebody else's news as well. */
inline pass_on() {
#if BUG != 4
  k = 0;
  do
  :: k < NS && word[k] != NOBODY -> k++
  :: else -> break
  od;
  if
  :: k < NS ->
    others_wait();
    if
    :: who != NOBODY -> ring_bell(who); who = NOBODY
    :: else
    fi
  :: else -> k = 0
  fi
#else
  skip
#endif
}

/* One G and sysmon of a process in one: sysmon looks when it was rung since its last look, and only then. */
proctype member(byte id; byte rounds) {
  byte mine = NOBODY, s = NOBODY, who = NOBODY, k, seen;
  bit ok;

  do
  :: rounds > 0 -> /* the G wants to run */
    rounds--;
    try_slots();
    if
    :: s == NOBODY -> waiting[id] = 1
    :: else
    fi;
    do
    :: s == NOBODY ->
      seen = bell[id];
#if BUG != 2
      try_slots();
#endif
#if BUG == 3
      seen = bell[id];
#endif
      if
      :: s == NOBODY ->
end_wait:
        bell[id] != seen; /* asleep, and waiting */
#if BUG == 2
        try_slots()
#endif
      :: else
      fi
    :: else -> break
    od;
    if
    :: waiting[id] -> waiting[id] = 0; mine = s; adopt(); pass_on()
    :: else -> mine = s
    fi;
    if
    :: atomic { s = mine; mine = NOBODY } /* it has run */
      release()
    :: atomic { hog[id] = mine; rounds = 0 } /* it runs for ever */
    fi
  :: rounds == 0 ->
end_idle:
    bell[id] != seen;
    seen = bell[id];
#if BUG != 5
    adopt();
#endif
    pass_on()
  od
}

/* The page's owner: takes one slot away from its holder, at any time. */
proctype owner() {
  byte id = NM, k, who, s;
  if
  :: s = 0
  :: s = 1
  fi;
end_never:
  atomic {
    word[s] != NOBODY -> word[s] = NOBODY;
    holder[s] = NOBODY
  }
#if BUG != 7
  k = 0;
  do
  :: k < NM && !waiting[k] -> k++
  :: else -> break
  od;
  if
  :: k < NM -> ring_bell(k)
  :: else
  fi
#endif
}

/* When nothing moves any more: a slot that is held runs something, and if one is free nobody waits. */
proctype auditor() {
  timeout;
  assert((word[0] == NOBODY || hog[word[0]] == 0) && (word[1] == NOBODY || hog[word[1]] == 1));
  assert(!(word[0] == NOBODY || word[1] == NOBODY) || !(waiting[0] || waiting[1] || waiting[2]))
}

init {
  atomic {
    run auditor();
#ifdef EXPROPRIATE
    run member(0, 1);
    run member(1, 1);
    run member(2, 1);
    run owner()
#else
    run member(0, 2);
    run member(1, 1);
    run member(2, 1)
#endif
  }
}
