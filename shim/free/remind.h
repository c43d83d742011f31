/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_REMIND_H
#define RATION_FREE_REMIND_H
/* Telling somebody of something, by a signal as a rule, until it has been seen to: remind.c. */
#include <stdbool.h>
#include <stdint.h>

struct reminder;
struct reminder_kind {
  bool (*open)(const struct reminder *r); /* it has not been seen to */
  void (*tell)(const struct reminder *r);
  uint32_t doublings; /* of the time between two, from REMIND_FIRST_NS on */
};

#define REMIND_FIRST_NS 1000000u

struct reminder {
  const struct reminder_kind *kind; /* [set before it is used] */
  /* [the list's lock] */
  struct reminder *next;
  uint64_t at; /* of the next time */
  uint32_t told;
  bool listed;
};

/* From `at` on, until it is seen to.  One that is listed already goes on as it is, unless it is to begin anew. */
void remind(struct reminder *r, uint64_t at, bool anew);
/* The monitor's look; when to look again.  core/monitor.c knows it by name. */
uint64_t free_remind_look(uint64_t now);
/* In the child of a fork nobody is to be told of anything; own: those of the caller. */
void remind_fork_child(struct reminder *const *own, unsigned n);

#endif
