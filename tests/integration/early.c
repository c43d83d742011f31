/* SPDX-License-Identifier: Apache-2.0 */
/* What a program does in its first moment, when ration's attaching may be put off yet. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

static void *count(void *arg) {
  printf("thread %d\n", get_nprocs());
  return arg;
}
static void in_thread(void) {
  pthread_t t;
  if (pthread_create(&t, NULL, count, NULL) || pthread_join(t, NULL)) exit(3);
}

static int forks(void) {
  pid_t p = fork();
  if (p == 0) {
    printf("child %d\n", get_nprocs());
    in_thread();
    return 0;
  }
  int status = 0;
  if (waitpid(p, &status, 0) != p || status) return 4;
  printf("parent %d\n", get_nprocs());
  return 0;
}

/* Ration steps aside for it. */
static int unshares(void) {
  if (unshare(CLONE_NEWUSER)) return 5;
  printf("unshared %d\n", get_nprocs());
  in_thread();
  return 0;
}

static _Noreturn void stays(void) {
  printf("stays\n");
  fflush(stdout);
  for (;;) pause();
}
static int chroots(const char *dir) {
  if (chroot(dir)) return 6;
  stays();
}
static int limits(void) {
  struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_NOFILE, &none)) return 7;
  stays();
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "forks")) return forks();
  if (!strcmp(what, "unshares")) return unshares();
  if (!strcmp(what, "chroots") && argc > 2) return chroots(argv[2]);
  if (!strcmp(what, "limits")) return limits();
  if (!strcmp(what, "ends")) return 0;
  return 2;
}
