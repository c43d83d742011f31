/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to rationd and its answer.  Every wait has an end, every frame is checked by
 * the decoder, and each way in which this can go wrong has a sentence of its own: these are what a user reads most.
 */
#include "daemon/cli/conn.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SERIAL 1u

struct conn {
  const struct cli_command *cmd;
  const char *path;
  int fd;
  uint64_t end_ns;
  bool newer; /* the question may be one that rationd does not know yet */
};

const char *conn_socket_path(const char *option) {
  const char *env = getenv("RATION_SOCKET");
  return option ? option : env && *env ? env : WIRE_SOCKET_PATH;
}

static int say_not_running(const struct conn *c, const char *what) {
  cli_error(c->cmd, "rationd is not running (%s: %s)", c->path, what);
  if (strcmp(c->path, WIRE_SOCKET_PATH) == 0)
    fputs("Start it with 'systemctl start rationd', or without systemd with 'rationd --foreground'.\n", stderr);
  else
    fprintf(stderr, "Start it with 'rationd --foreground --socket %s'.\n", c->path);
  return CLI_FAILED;
}

static int say_connect_error(const struct conn *c, int err) {
  switch (err) {
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
      return say_not_running(c, err == ECONNREFUSED ? "nobody listens there" : strerror(err));
    case EACCES:
    case EPERM:
      cli_error(c->cmd, "may not talk to rationd: no permission for %s (who may is set by the group and mode of the socket)", c->path);
      break;
    case EPROTOTYPE:
      cli_error(c->cmd, "%s is a socket, but not rationd's", c->path);
      break;
    case EAGAIN:
      cli_error(c->cmd, "rationd takes no connection (%s): it is overloaded or hangs", c->path);
      break;
    default:
      cli_error(c->cmd, "cannot connect to %s: %s", c->path, strerror(err));
  }
  return CLI_FAILED;
}

static int conn_open(struct conn *c) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  if (strlen(c->path) >= sizeof(addr.sun_path)) {
    cli_error(c->cmd, "the socket's path is longer than the %zu bytes that the system allows: %s", sizeof(addr.sun_path) - 1, c->path);
    return CLI_FAILED;
  }
  strcpy(addr.sun_path, c->path);
  c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (c->fd < 0) return say_connect_error(c, errno);
  /* A listener that accepts nobody blocks connect() once its queue is full. */
  struct timeval tv = {.tv_sec = CONN_SILENCE_MS / 1000, .tv_usec = CONN_SILENCE_MS % 1000 * 1000};
  setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
  return connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? say_connect_error(c, errno) : CLI_OK;
}

static void conn_close(struct conn *c) { util_closep(&c->fd); }

static int say_garbage(const struct conn *c, const char *what) {
  cli_error(c->cmd, "%s answers something that is not ration's protocol (%s)", c->path, what);
  return CLI_FAILED;
}

static int say_lost(const struct conn *c) {
  cli_error(c->cmd, "rationd hung up before it had answered (see its log)");
  return CLI_FAILED;
}

/* The kernel names who called listen(): init, where systemd has the socket, whether it has started the daemon or is about to. */
static bool init_listens(const struct conn *c) {
  struct ucred peer;
  socklen_t n = sizeof(peer);
  return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.pid == 1;
}

static int say_silent(const struct conn *c) {
  if (init_listens(c))
    cli_error(c->cmd,
              "rationd does not answer (%s): systemd is still starting it, or it hangs or is overloaded; see 'systemctl status rationd'",
              c->path);
  else
    cli_error(c->cmd, "rationd does not answer (%s): it hangs, or is overloaded", c->path);
  return CLI_FAILED;
}

/* Waits until there is something to read. */
static int wait_frame(const struct conn *c) {
  for (;;) {
    uint64_t now = now_ns();
    uint64_t left = c->end_ns > now ? (c->end_ns - now) / NS_PER_MS : 0;
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    int r = poll(&p, 1, (int)UTIL_MIN(left, (uint64_t)CONN_SILENCE_MS));
    if (r > 0) return CLI_OK;
    if (r < 0 && errno == EINTR) continue;
    return say_silent(c);
  }
}

/* Before the decoder refuses another version: which one is it?  (It must look like a header of ours.) */
static int check_version(const struct conn *c) {
  struct wire_hdr hdr;
  ssize_t n = recv(c->fd, &hdr, sizeof(hdr), MSG_PEEK | MSG_DONTWAIT);
  if (n != sizeof(hdr) || hdr.magic != WIRE_MAGIC || hdr.version == WIRE_VERSION) return CLI_OK;
  cli_error(c->cmd,
            "rationd is of another version: it speaks protocol %u, this ration %u; install the same version of both, restart rationd",
            hdr.version, WIRE_VERSION);
  return CLI_FAILED;
}

static int recv_frame(const struct conn *c, struct wire_frame *f) {
  int fds[WIRE_FDS_MAX], nfds = 0;
  const char *why = "";
  int s = wait_frame(c);
  if (s == CLI_OK) s = check_version(c);
  if (s != CLI_OK) return s;
  int r = wire_recv(c->fd, f, fds, &nfds, &why);
  while (nfds > 0) close(fds[--nfds]);
  if (r == -EPIPE || r == -ECONNRESET) return say_lost(c);
  if (r == -EPROTO || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP) return say_garbage(c, why);
  if (r < 0) {
    cli_error(c->cmd, "cannot read from %s: %s", c->path, strerror(-r));
    return CLI_FAILED;
  }
  return CLI_OK;
}

/* The next frame of the answer; what comes unasked is passed over. */
static int next_answer(const struct conn *c, struct wire_frame *f) {
  do {
    int s = recv_frame(c, f);
    if (s != CLI_OK) return s;
  } while (f->hdr.type == WIRE_CHANGED || f->hdr.type == WIRE_REATTACH);
  if (f->hdr.type == WIRE_ERROR) {
    if (c->newer && f->u.error.error == EOPNOTSUPP) return CONN_NOT_KNOWN;
    if (f->u.error.error == EACCES || f->u.error.error == EPERM)
      cli_error(c->cmd, "rationd does not permit it: %s", f->u.error.text);
    else
      cli_error(c->cmd, "rationd says: %s (%s)", f->u.error.text, strerror(f->u.error.error));
    return CLI_FAILED;
  }
  if (f->hdr.serial != SERIAL) return say_garbage(c, "an answer to another question");
  return CLI_OK;
}

static int ask(const struct conn *c, struct wire_frame *f, uint16_t query, int fd) {
  wire_seal(f, query, SERIAL);
  int r = wire_send(c->fd, f, &fd, fd >= 0);
  if (r == 0) return CLI_OK;
  /* A daemon that refuses a client may have said why before it hung up. */
  if (r == -EPIPE || r == -ECONNRESET) return next_answer(c, f) == CLI_OK ? say_lost(c) : CLI_FAILED;
  cli_error(c->cmd, "cannot write to %s: %s", c->path, strerror(-r));
  return CLI_FAILED;
}

static int ask_for(struct conn *c, uint16_t query, uint16_t answer, bool many, void (*row)(void *ctx, const struct wire_frame *f),
                   void *ctx) {
  struct wire_frame q = {0};
  int s = conn_open(c);
  if (s == CLI_OK) s = ask(c, &q, query, -1);
  for (uint32_t rows = 0; s == CLI_OK; rows++) {
    struct wire_frame f;
    s = next_answer(c, &f);
    if (s != CLI_OK) break;
    if (many && f.hdr.type == WIRE_END) break;
    if (f.hdr.type != answer) return say_garbage(c, wire_type_name(f.hdr.type));
    if (rows >= CONN_ROWS_MAX) return say_garbage(c, "an answer without an end");
    row(ctx, &f);
    if (!many) break;
  }
  return s;
}

int conn_ask(const struct cli_command *cmd, const char *socket_path, uint16_t query, uint16_t answer, bool many,
             void (*row)(void *ctx, const struct wire_frame *f), void *ctx) {
  _cleanup_(conn_close) struct conn c = {.cmd = cmd, .path = socket_path, .fd = -1, .end_ns = now_ns() + CONN_TOTAL_MS * NS_PER_MS};
  return ask_for(&c, query, answer, many, row, ctx);
}

int conn_ask_newer(const struct cli_command *cmd, const char *socket_path, uint16_t query, uint16_t answer,
                   void (*row)(void *ctx, const struct wire_frame *f), void *ctx) {
  _cleanup_(conn_close) struct conn c = {.cmd = cmd, .path = socket_path, .fd = -1, .end_ns = now_ns() + CONN_TOTAL_MS * NS_PER_MS};
  c.newer = true;
  return ask_for(&c, query, answer, true, row, ctx);
}

int conn_hand_over(const struct cli_command *cmd, const char *socket_path, struct wire_frame *f, uint16_t type, int fd) {
  _cleanup_(conn_close) struct conn c = {.cmd = cmd, .path = socket_path, .fd = -1, .end_ns = now_ns() + CONN_TOTAL_MS * NS_PER_MS};
  int s = conn_open(&c);
  if (s == CLI_OK) s = ask(&c, f, type, fd);
  if (s == CLI_OK) s = next_answer(&c, f);
  if (s == CLI_OK && f->hdr.type != WIRE_OK) return say_garbage(&c, wire_type_name(f->hdr.type));
  return s;
}
