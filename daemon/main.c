/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rationd: one per host.  Owns the P pools, leases Ps to processes.
 *
 * This file: command line, socket, capabilities, signals, systemd, the event loop.
 * One thread runs everything; the waker and the BPF part have helpers that only wait.
 *
 * Privilege.  CAP_BPF and CAP_PERFMON are all that is kept, and only where BPF
 * is wanted; what is read of processes and cgroups is open to everyone.  They are
 * dropped before the first thread is made, since capabilities belong to threads.
 *
 * Stopping, however it is done, leaves the pool pages to the processes that map them, and these
 * hand them to the next daemon.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include "client.h"
#include "domain.h"
#include "inflight.h"
#include "pace.h"
#include "watchdog.h"

#define ACCEPTS_A_TURN 32
#define FDS_PER_CLIENT 6u /* socket, pidfd, M map, ring, and some to spare */
#define FDS_OF_OURS 256u
#define KEPT_FOR_ROOT 16u /* connections */

struct options {
  const char *config;
  const char *socket;
  const char *log_level;
  bool config_named, check, no_bpf, foreground;
};

static struct server server;
static struct options options = {.config = CONFIG_PATH};
static struct event ev_term, ev_int, ev_hup;

/* The socket file that we made.  By its number: the name may be another's by now, or another name in the configuration. */
static struct {
  char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
  dev_t dev;
  ino_t ino;
} bound;

static const char usage_text[] =
    "Usage: rationd [OPTION]...\n"
    "Leases CPUs to processes as the CPU quotas of their cgroups say.\n"
    "\n"
    "  -c, --config=FILE      read FILE instead of " CONFIG_PATH
    "\n"
    "  -C, --check-config     read the configuration, say what is wrong, and exit\n"
    "  -s, --socket=PATH      listen there instead of " WIRE_SOCKET_PATH
    "\n"
    "  -f, --foreground       log to stderr, whatever the configuration says\n"
    "                         (rationd never goes into the background by itself)\n"
    "  -B, --no-bpf           do without BPF: processes poll\n"
    "  -l, --log-level=LEVEL  error, warning, notice, info or debug\n"
    "  -V, --version          print the version\n"
    "  -h, --help             print this\n";

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'C'}, {"socket", required_argument, NULL, 's'},
    {"foreground", no_argument, NULL, 'f'},   {"no-bpf", no_argument, NULL, 'B'},       {"log-level", required_argument, NULL, 'l'},
    {"version", no_argument, NULL, 'V'},      {"help", no_argument, NULL, 'h'},         {0},
};

/* getopt has said that there is no such option; `word` is "--word" or "--word=value" if it was a long one. */
static void option_suggest(const char *word) {
  char name[32];
  const char *near = NULL;
  if (optopt == 0 && strncmp(word, "--", 2) == 0 && strcspn(word + 2, "=") < sizeof(name)) {
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
    size_t best = UTIL_MAX((size_t)1, strlen(name) / 3) + 1;
    for (const struct option *o = long_options; o->name; o++) {
      size_t d = config_distance(name, o->name);
      if (d >= best) continue;
      best = d;
      near = o->name;
    }
  }
  if (near) fprintf(stderr, "Did you mean '--%s'? ", near);
  fputs("Try 'rationd --help'.\n", stderr);
}

/* What was asked for is on stdout: the status, unless it did not get there. */
static int told(int status) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  fprintf(stderr, "rationd: cannot write to stdout: %s\n", strerror(errno));
  return 1;
}

/* 0: go on; else exit with that status - 1. */
static int options_parse(int argc, char **argv) {
  int o;
  while ((o = getopt_long(argc, argv, "c:Cs:fBl:Vh", long_options, NULL)) != -1) {
    switch (o) {
      case 'c':
        options.config = optarg, options.config_named = true;
        break;
      case 'C':
        options.check = true;
        break;
      case 's':
        options.socket = optarg;
        break;
      case 'f':
        options.foreground = true;
        break;
      case 'B':
        options.no_bpf = true;
        break;
      case 'l':
        options.log_level = optarg;
        break;
      case 'V':
        printf("rationd %s (protocol %u)\n", RATION_VERSION, WIRE_VERSION);
        return told(0) + 1;
      case 'h':
        fputs(usage_text, stdout);
        return told(0) + 1;
      default:
        option_suggest(argv[optind - 1]);
        return 3;
    }
  }
  if (optind == argc) return 0;
  fprintf(stderr, "rationd: '%s': no such argument. Try 'rationd --help'.\n", argv[optind]);
  return 3;
}

/* The file, then what the command line says otherwise.  0; 1: there is no file, and none is needed. */
static int config_read(struct config *c, char *err, size_t errlen) {
  config_defaults(c);
  int r = config_load(c, options.config, options.config_named, err, errlen);
  if (r < 0) return r;
  if (options.socket) {
    if (*options.socket == 0 || strlen(options.socket) >= sizeof(c->socket)) {
      snprintf(err, errlen, "--socket: a path of 1 to %zu characters", sizeof(c->socket) - 1);
      return -EINVAL;
    }
    strcpy(c->socket, options.socket);
  }
  if (options.log_level && log_level_parse(options.log_level, &c->log_level) < 0) {
    snprintf(err, errlen, "--log-level=%s: error, warning, notice, info or debug", options.log_level);
    return -EINVAL;
  }
  if (options.no_bpf) c->bpf = false;
  if (options.foreground) c->log_file[0] = 0;
  return r;
}

/* ---- privilege and limits ---- */

static int privileges_drop(bool bpf) {
  static const unsigned keep[] = {CAP_BPF, CAP_PERFMON};
  bool have[2] = {false, false};
  capng_get_caps_process();
  for (int i = 0; i < 2; i++) have[i] = bpf && capng_have_capability(CAPNG_PERMITTED, keep[i]);
  bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
  capng_clear(CAPNG_SELECT_ALL);
  for (int i = 0; i < 2; i++) {
    if (have[i]) capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET, keep[i]);
  }
  if (capng_apply(bounds ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0) return -EPERM;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static void limits_set(struct server *s) {
  struct rlimit nofile = {1024, 1024};
  if (getrlimit(RLIMIT_NOFILE, &nofile) == 0 && nofile.rlim_cur < nofile.rlim_max) {
    nofile.rlim_cur = nofile.rlim_max;
    setrlimit(RLIMIT_NOFILE, &nofile);
    getrlimit(RLIMIT_NOFILE, &nofile);
  }
  rlim_t ours = nofile.rlim_cur > 2 * FDS_OF_OURS ? FDS_OF_OURS : nofile.rlim_cur / 2;
  rlim_t fit = (nofile.rlim_cur - ours) / FDS_PER_CLIENT;
  s->max_clients = fit < s->config.max_clients ? (uint32_t)fit : s->config.max_clients;
  if (s->max_clients == 0) s->max_clients = 1;
  /* No user may keep the others out, nor all of them root, who wants to see what is the matter. */
  s->max_per_uid = UTIL_MIN(s->config.max_clients_per_uid, UTIL_MAX(s->max_clients / 2, 1u));
  s->kept_for_root = UTIL_MIN(s->max_clients / 8, KEPT_FOR_ROOT);
  if (s->max_clients < s->config.max_clients)
    log_line(LOG_LEVEL_NOTICE, "RLIMIT_NOFILE of %llu allows %u clients, not %u", (unsigned long long)nofile.rlim_cur, s->max_clients,
             s->config.max_clients);
}

/* ---- the socket ---- */

/* What stands at the path: 0 a socket that nobody listens on any more, and is gone now; else why it stays. */
static int socket_clear(const struct sockaddr_un *to) {
  struct stat st;
  if (lstat(to->sun_path, &st) < 0) return errno == ENOENT ? 0 : -errno;
  /* connect() is refused by an ordinary file just as by a socket without a listener. */
  if (!S_ISSOCK(st.st_mode)) return -ENOTSOCK;
  _cleanup_close_ int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return -errno;
  if (connect(probe, (const struct sockaddr *)to, sizeof(*to)) == 0 || errno != ECONNREFUSED) return -EADDRINUSE;
  return unlink(to->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int socket_bind(int fd, const struct sockaddr_un *to) {
  if (bind(fd, (const struct sockaddr *)to, sizeof(*to)) == 0) return 0;
  if (errno != EADDRINUSE) return -errno;
  /* Left over from a daemon that was killed, or is it alive? */
  int r = socket_clear(to);
  if (r < 0) return r;
  return bind(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 ? 0 : -errno;
}

static void socket_make_dir(const char *path) {
  char dir[108];
  snprintf(dir, sizeof(dir), "%s", path);
  char *slash = strrchr(dir, '/');
  if (!slash || slash == dir) return;
  *slash = 0;
  int r = mkdir(dir, 0755);
  if (r == 0) r = chmod(dir, 0755); /* whatever the umask is: all users have to pass */
  if (r < 0 && errno != EEXIST) log_line(LOG_LEVEL_WARNING, "%s: %s", dir, strerror(errno));
}

/* Any user may connect: what a peer may do follows from its credentials. */
static int socket_listen(struct server *s) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  struct stat st;
  snprintf(to.sun_path, sizeof(to.sun_path), "%s", s->config.socket);
  socket_make_dir(to.sun_path);
  _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  int r = socket_bind(fd, &to);
  if (r < 0) return r;
  if (chmod(to.sun_path, 0666) < 0 || lstat(to.sun_path, &st) < 0 || listen(fd, 1024) < 0) return -errno;
  memcpy(bound.path, to.sun_path, sizeof(bound.path));
  bound.dev = st.st_dev;
  bound.ino = st.st_ino;
  s->listen_fd = util_take_fd(&fd);
  s->listen_ours = true;
  return 0;
}

static void socket_remove(void) {
  struct stat st;
  if (lstat(bound.path, &st) == 0 && st.st_dev == bound.dev && st.st_ino == bound.ino) unlink(bound.path);
}

static const char *socket_error(int r) {
  if (r == -EADDRINUSE) return "another rationd listens there";
  if (r == -ENOTSOCK) return "there is something that is no socket; not touched";
  return strerror(-r);
}

/* Sockets that systemd passed.  1: took one; 0: none; -errno: not what we need. */
static int socket_inherit(struct server *s) {
  int n = sd_listen_fds(1);
  if (n <= 0) return n;
  for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++) {
    if (s->listen_fd < 0 && sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) > 0) {
      s->listen_fd = fd;
      evutil_make_socket_nonblocking(fd);
    } else {
      close(fd);
    }
  }
  return s->listen_fd >= 0 ? 1 : -EPROTOTYPE;
}

static void server_on_listen_again(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct server *s = arg;
  event_add(&s->ev_listen, NULL);
}

static void server_on_listen(evutil_socket_t fd, short what, void *arg) {
  (void)what;
  watchdog_beat();
  struct server *s = arg;
  for (int i = 0; i < ACCEPTS_A_TURN; i++) {
    int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (c >= 0) {
      client_accept(s, c);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN) return;
    /* Out of descriptors or memory: the queue stays readable, so look away for a while. */
    if (log_allowed(&s->limit_refused)) log_line(LOG_LEVEL_ERROR, "accept: %s; no new clients for a second", strerror(errno));
    struct timeval second = {.tv_sec = 1};
    event_del(&s->ev_listen);
    event_add(&s->ev_listen_again, &second);
    return;
  }
}

/* ---- signals ---- */

static void server_on_stop(evutil_socket_t sig, short what, void *arg) {
  (void)what;
  struct server *s = arg;
  log_line(LOG_LEVEL_NOTICE, "stopping on signal %d", (int)sig);
  sd_notify(0, "STOPPING=1");
  event_base_loopbreak(s->base);
}

static void server_on_reload(evutil_socket_t sig, short what, void *arg) {
  (void)sig, (void)what;
  watchdog_beat();
  struct server *s = arg;
  struct config c;
  char err[512];
  sd_notify(0, "RELOADING=1");
  if (config_read(&c, err, sizeof(err)) < 0) {
    log_line(LOG_LEVEL_ERROR, "%s; the old configuration stays", err);
    config_free(&c);
  } else {
    if (strcmp(c.socket, s->config.socket) != 0 || c.bpf != s->config.bpf)
      log_line(LOG_LEVEL_NOTICE, "socket and bpf change at the next start only");
    config_free(&s->config);
    s->config = c;
    int r = log_open(c.log_file);
    if (r < 0) log_line(LOG_LEVEL_ERROR, "%s: %s; the old log stays", c.log_file, strerror(-r));
    log_set_level(c.log_level);
    limits_set(s);
    domains_reconfigure(s);
    log_line(LOG_LEVEL_NOTICE, "configuration read again");
  }
  sd_notify(0, "READY=1");
}

/* ---- life ---- */

static void bpf_start(struct server *s) {
  if (!s->config.bpf) {
    snprintf(s->bpf_error, sizeof(s->bpf_error), "switched off");
    return;
  }
  int r = watch_open(&s->watch, s->bpf_error, sizeof(s->bpf_error));
  if (r == 0) {
    s->bpf_error[0] = 0;
    return;
  }
  s->watch = NULL;
  log_line(LOG_LEVEL_WARNING, "no BPF, processes poll: %s", s->bpf_error[0] ? s->bpf_error : strerror(-r));
}

static void server_add_events(struct server *s) {
  event_assign(&s->ev_listen, s->base, s->listen_fd, EV_READ | EV_PERSIST, server_on_listen, s);
  event_assign(&s->ev_listen_again, s->base, -1, 0, server_on_listen_again, s);
  event_add(&s->ev_listen, NULL);
  evsignal_assign(&ev_term, s->base, SIGTERM, server_on_stop, s);
  evsignal_assign(&ev_int, s->base, SIGINT, server_on_stop, s);
  evsignal_assign(&ev_hup, s->base, SIGHUP, server_on_reload, s);
  evsignal_add(&ev_term, NULL);
  evsignal_add(&ev_int, NULL);
  evsignal_add(&ev_hup, NULL);
}

static int server_start(struct server *s) {
  s->listen_fd = -1;
  s->started = now_ns();
  s->limit_malformed = (struct log_limit)LOG_LIMIT_INIT(10 * NS_PER_SEC, 10);
  s->limit_refused = (struct log_limit)LOG_LIMIT_INIT(10 * NS_PER_SEC, 5);
  s->limit_attach = (struct log_limit)LOG_LIMIT_INIT(10 * NS_PER_SEC, 5);
  signal(SIGPIPE, SIG_IGN);
  umask(0077);
  limits_set(s);
  int r = socket_inherit(s);
  if (r == -EPROTOTYPE) log_line(LOG_LEVEL_ERROR, "the sockets that systemd passed are not SOCK_SEQPACKET listeners");
  if (r == 0 && (r = socket_listen(s)) < 0) log_line(LOG_LEVEL_ERROR, "%s: %s", s->config.socket, socket_error(r));
  if (r < 0) return r;
  if ((r = privileges_drop(s->config.bpf)) < 0) log_line(LOG_LEVEL_WARNING, "cannot drop capabilities: %s", strerror(-r));

  struct event_config *ec = event_config_new();
  if (!ec) return -ENOMEM;
  event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_PRECISE_TIMER);
  s->base = event_base_new_with_config(ec);
  event_config_free(ec);
  if (!s->base) return -ENOMEM;
  if ((r = domains_start(s)) < 0) return r;
  bpf_start(s);
  server_add_events(s);
  inflight_start(s);
  watchdog_start(s->base);
  return 0;
}

static void server_stop(struct server *s) {
  for (struct client *c = s->clients, *next; c; c = next) {
    next = c->next;
    client_abandon(c);
  }
  inflight_stop(s);
  pace_free(&s->paces);
  domains_stop(s);
  watch_close(s->watch);
  event_del(&s->ev_listen);
  event_del(&s->ev_listen_again);
  event_del(&ev_term);
  event_del(&ev_int);
  event_del(&ev_hup);
  watchdog_stop();
  if (s->listen_ours) socket_remove();
  close(s->listen_fd);
  event_base_free(s->base);
  config_free(&s->config);
}

int main(int argc, char **argv) {
  char err[512] = "";
  int r = options_parse(argc, argv);
  if (r) return r - 1;
  r = config_read(&server.config, err, sizeof(err));
  if (r < 0) {
    fprintf(stderr, "rationd: %s\n", err);
    return 2;
  }
  if (options.check) {
    printf(r ? "%s: there is no such file; the defaults apply\n" : "%s: ok\n", options.config);
    return told(0);
  }
  log_set_level(server.config.log_level);
  r = log_open(server.config.log_file);
  if (r < 0) {
    fprintf(stderr, "rationd: %s: %s\n", server.config.log_file, strerror(-r));
    log_open(NULL);
  }
  if (server_start(&server) < 0) return 1;
  log_line(LOG_LEVEL_NOTICE, "rationd %s ready on %s, %s", RATION_VERSION, server.listen_ours ? bound.path : "the socket of systemd",
           server.watch ? "with BPF" : "polling");
  sd_notify(0, "READY=1");
  event_base_dispatch(server.base);
  server_stop(&server);
  return 0;
}
