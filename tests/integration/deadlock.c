/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mains that wait for what can never come: each is a deadlock, with the reason in the list of Gs, as in Go.
 *
 *   deadlock list | deadlock NAME     the list: name, and what the report says of the main G
 */
#include <stdio.h>
#include <string.h>
#include <ration/context.h>
#include <ration/ration.h>
#include <ration/sync.h>
#include <ration/timer.h>

static struct ration_mutex mu;
static struct ration_rwmutex rw;
static struct ration_cond cond;
static struct ration_waitgroup wg;
static struct ration_sema sema = RATION_SEMA_INIT(1);
static struct ration_once once;

static void send_to_nil(void) { ration_chan_send(NULL, &wg); }
static void receive_from_nil(void) { ration_chan_recv(NULL, NULL); }
static void select_of_none(void) { ration_select(NULL, 0, RATION_FOREVER); }
static void select_of_nil(void) {
  struct ration_case k = ration_case_recv(NULL, NULL);
  ration_select(&k, 1, RATION_FOREVER);
}
static void send_to_nobody(void) { ration_chan_send(ration_chan_new(1, 0), "x"); }
static void receive_from_nobody(void) { ration_chan_recv(ration_chan_new(1, 0), NULL); }
static void select_of_nobodys(void) {
  struct ration_case k[] = {ration_case_recv(ration_chan_new(1, 0), NULL), ration_case_send(ration_chan_new(1, 0), "x")};
  ration_select(k, 2, RATION_FOREVER);
}
static void receive_of_a_stopped_ticker(void) {
  struct ration_ticker *t = ration_ticker_new(RATION_SECOND);
  ration_ticker_stop(t);
  ration_chan_recv(ration_ticker_chan(t), NULL);
}
static void lock_twice(void) {
  ration_mutex_lock(&mu);
  ration_mutex_lock(&mu);
}
static void write_while_reading(void) {
  ration_rwmutex_rlock(&rw);
  ration_rwmutex_lock(&rw);
}
static void read_while_writing(void) {
  ration_rwmutex_lock(&rw);
  ration_rwmutex_rlock(&rw);
}
static void wait_for_no_signal(void) {
  ration_mutex_lock(&mu);
  ration_cond_wait(&cond, &mu);
}
static void wait_for_no_done(void) {
  ration_waitgroup_add(&wg, 1);
  ration_waitgroup_wait(&wg);
}
static void acquire_twice(void) {
  ration_sema_acquire(&sema, 1);
  ration_sema_acquire(&sema, 1);
}
static void do_once(void *arg) { ration_once_do(&once, do_once, arg); }
static void once_in_itself(void) { do_once(NULL); }
static void wait_for_no_end(void) { ration_context_wait(ration_context_with_cancel(NULL)); }
static void exit_of_main(void) { ration_exit(); }

static const struct check {
  const char *name;
  void (*fn)(void);
  const char *says;
} checks[] = {
#define C(fn, says) \
  { #fn, fn, says }
    C(send_to_nil, "nil chan"),
    C(receive_from_nil, "nil chan"),
    C(select_of_none, "nil chan"),
    C(select_of_nil, "nil chan"),
    C(send_to_nobody, "chan send"),
    C(receive_from_nobody, "chan receive"),
    C(select_of_nobodys, "select"),
    C(receive_of_a_stopped_ticker, "chan receive"),
    C(lock_twice, "mutex"),
    C(write_while_reading, "rwlock"),
    C(read_while_writing, "rwlock"),
    C(wait_for_no_signal, "cond"),
    C(wait_for_no_done, "wait group"),
    C(acquire_twice, "sema"),
    C(once_in_itself, "mutex"),
    C(wait_for_no_end, "context"),
    C(exit_of_main, ""),
};
#define CHECKS (sizeof checks / sizeof *checks)

static const struct check *chosen;
static int prog(int argc, char **argv) {
  (void)argc, (void)argv;
  chosen->fn();
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "list") == 0)
    for (size_t i = 0; i < CHECKS; i++) printf("%s %s\n", checks[i].name, checks[i].says);
  for (size_t i = 0; argc == 2 && i < CHECKS; i++)
    if (strcmp(argv[1], checks[i].name) == 0) chosen = &checks[i];
  return chosen ? ration_main(argc, argv, prog) : argc != 2 || strcmp(argv[1], "list") != 0;
}
