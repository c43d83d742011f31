/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crawler: follows all links of a site, each page in a G of its own, with at most so many connections at once.
 *
 *   crawler       the site is a small web server in this program, on a free port of the loopback
 *
 * The site has pages /0 to /299; page n links to 2n+1, 2n+2, and back to n/2, and takes 2 ms to make.  One after the other
 * they would take 0.6 s.
 *
 * What to see here: a mutex around a set, a semaphore that bounds what happens at once, a wait group for a number of Gs that nobody
 * knows beforehand.  They are ration's own, for Gs: with a pthread_mutex_t the thread would block, with all the Gs that it could run.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <ration/ration.h>
#include <ration/sync.h>

#define PAGES 300
#define AT_ONCE 16
#define PAGE_MS 2

static struct sockaddr_in site_at;

/* --- the site --- */

static void answer(void *arg) {
  int fd = (int)(intptr_t)arg, page = -1, n;
  char in[256], out[256];
  size_t got = 0;
  while (got < sizeof in - 1) { /* until the end of the request's head */
    ssize_t r = read(fd, in + got, sizeof in - 1 - got);
    if (r <= 0) break;
    got += (size_t)r;
    in[got] = 0;
    if (strstr(in, "\r\n\r\n")) break;
  }
  in[got] = 0;
  if (sscanf(in, "GET /%d ", &page) != 1 || page < 0 || page >= PAGES) {
    n = snprintf(out, sizeof out, "HTTP/1.0 404 Not Found\r\n\r\n");
  } else {
    ration_sleep(PAGE_MS * RATION_MS); /* this G alone */
    n = snprintf(out, sizeof out, "HTTP/1.0 200 OK\r\n\r\n<a href=\"/%d\"> <a href=\"/%d\"> <a href=\"/%d\">\n", 2 * page + 1, 2 * page + 2,
                 page / 2);
  }
  if (write(fd, out, (size_t)n) != n) perror("write");
  close(fd);
}

static void serve(void *arg) {
  for (;;) {
    int fd = accept((int)(intptr_t)arg, NULL, NULL);
    if (fd < 0) return;
    if (ration_go(answer, (void *)(intptr_t)fd) < 0) close(fd);
  }
}

static int open_site(void) {
  socklen_t len = sizeof site_at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  site_at.sin_family = AF_INET;
  site_at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)&site_at, sizeof site_at) < 0 || listen(fd, 128) < 0) return -1;
  return getsockname(fd, (struct sockaddr *)&site_at, &len) < 0 ? -1 : fd;
}

/* --- the crawler --- */

static struct ration_waitgroup crawls = RATION_WAITGROUP_INIT;
static struct ration_sema connections = RATION_SEMA_INIT(AT_ONCE);
static struct ration_mutex mu = RATION_MUTEX_INIT; /* guards what follows */
static bool seen[4 * PAGES];
static int found, missing, failed, open_now, open_most;

/* True for the first who asks for that page. */
static bool claim(int page) {
  ration_mutex_lock(&mu);
  bool first = page >= 0 && page < 4 * PAGES && !seen[page];
  if (first) seen[page] = true;
  ration_mutex_unlock(&mu);
  return first;
}

/* The whole answer, with a 0 at its end; its length, or -1. */
static ssize_t fetch(int page, char *into, size_t size) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  ssize_t got = -1;
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&site_at, sizeof site_at) == 0) {
    int n = snprintf(into, size, "GET /%d HTTP/1.0\r\n\r\n", page);
    if (write(fd, into, (size_t)n) == n) {
      ssize_t r;
      for (got = 0; (r = read(fd, into + got, size - 1 - (size_t)got)) > 0;) got += r;
      if (r < 0)
        got = -1;
      else
        into[got] = 0;
    }
  }
  close(fd);
  return got;
}

static void crawl(void *arg);

/* Starts a crawl of a page that nobody has claimed yet. */
static void follow(int page) {
  if (claim(page) && ration_waitgroup_go(&crawls, crawl, (void *)(intptr_t)page) < 0) abort();
}

static void count_open(int by) {
  ration_mutex_lock(&mu);
  open_now += by;
  if (open_now > open_most) open_most = open_now;
  ration_mutex_unlock(&mu);
}

static void crawl(void *arg) {
  int page = (int)(intptr_t)arg;
  char text[512];
  ration_sema_acquire(&connections, 1); /* hundreds of Gs may wait here; each costs a page of memory */
  count_open(1);
  ssize_t n = fetch(page, text, sizeof text);
  count_open(-1);
  ration_sema_release(&connections, 1);

  bool ok = n > 0 && strstr(text, " 200 ");
  ration_mutex_lock(&mu);
  *(ok ? &found : n > 0 && strstr(text, " 404 ") ? &missing : &failed) += 1;
  ration_mutex_unlock(&mu);
  if (!ok) return;
  for (const char *at = text; (at = strstr(at, "href=\"/")); at++) follow(atoi(at + 7));
}

static int prog(int argc, char **argv) {
  (void)argc, (void)argv;
  int listener = open_site();
  if (listener < 0) {
    perror("crawler");
    return 1;
  }
  ration_go(serve, (void *)(intptr_t)listener);
  follow(0);
  /* A crawl counts those that it starts before it ends itself, so the counter is 0 only when there is nothing more to find. */
  ration_waitgroup_wait(&crawls);
  printf("%d pages, %d dead links, %d failed\n", found, missing, failed);
  /* The pages link up to 2 * 299 + 2 = 600, of which 300 to 600 are not there. */
  return found == PAGES && missing == 601 - PAGES && failed == 0 && open_most <= AT_ONCE ? 0 : 1;
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
