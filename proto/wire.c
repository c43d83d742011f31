/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames between rationd and its clients: sizes, checks, send and receive.
 *
 * This file is linked into the daemon, the CLI and the shim.  In the shim it runs on
 * threads that have no real thread-local storage, so it makes raw system
 * calls and uses neither errno nor malloc nor stdio.  It keeps no state and
 * takes no lock.
 *
 * Strictness: a frame has exactly the size of its type, every string in it ends, and it
 * carries no more descriptors than its type may.  Everything else closes the
 * connection, so a decoder in another language can't drift.
 */
#include "proto/wire.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include "proto/rawsys.h"

struct wire_string {
  uint16_t at, size;
};

struct wire_desc {
  const char *name;
  int16_t body; /* -1: no such type */
  int8_t fds;
  struct wire_string strings[2]; /* size 0: none */
};

#define WIRE_STR(s, f) \
  { offsetof(struct s, f), sizeof(((struct s *)0)->f) }

/* clang-format off */
static const struct wire_desc descs[] = {
  [WIRE_HELLO]        = {"HELLO", sizeof(struct wire_hello), 1, {WIRE_STR(wire_hello, name)}},
  [WIRE_REGISTER_M]   = {"REGISTER_M", sizeof(struct wire_register_m), 1, {}},
  [WIRE_UNREGISTER_M] = {"UNREGISTER_M", 0, 1, {}},
  [WIRE_QUOTA_QUERY]  = {"QUOTA_QUERY", sizeof(struct wire_quota_query), 0, {}},
  [WIRE_POOL_QUERY]   = {"POOL_QUERY", 0, 0, {}},
  [WIRE_PS_QUERY]     = {"PS_QUERY", 0, 0, {}},
  [WIRE_STATS_QUERY]  = {"STATS_QUERY", 0, 0, {}},
  [WIRE_GS_QUERY]     = {"GS_QUERY", sizeof(struct wire_gs_query), 1, {}},
  [WIRE_PS_MORE_QUERY] = {"PS_MORE_QUERY", 0, 0, {}},
  [WIRE_WELCOME]      = {"WELCOME", sizeof(struct wire_welcome), 3, {WIRE_STR(wire_welcome, daemon_version)}},
  [WIRE_OK]           = {"OK", 0, 0, {}},
  [WIRE_ERROR]        = {"ERROR", sizeof(struct wire_error), 0, {WIRE_STR(wire_error, text)}},
  [WIRE_QUOTA]        = {"QUOTA", sizeof(struct wire_quota), 0, {WIRE_STR(wire_quota, domain), WIRE_STR(wire_quota, source)}},
  [WIRE_POOL]         = {"POOL", sizeof(struct wire_pool), 0, {WIRE_STR(wire_pool, domain)}},
  [WIRE_PS]           = {"PS", sizeof(struct wire_ps), 0, {WIRE_STR(wire_ps, name), WIRE_STR(wire_ps, domain)}},
  [WIRE_STATS]        = {"STATS", sizeof(struct wire_stats), 0, {WIRE_STR(wire_stats, bpf_error), WIRE_STR(wire_stats, version)}},
  [WIRE_END]          = {"END", 0, 0, {}},
  [WIRE_CHANGED]      = {"CHANGED", 0, 0, {}},
  [WIRE_REATTACH]     = {"REATTACH", 0, 0, {}},
  [WIRE_DUMP_GS]      = {"DUMP_GS", 0, 1, {}},
  [WIRE_PS_MORE]      = {"PS_MORE", sizeof(struct wire_ps_more), 0, {WIRE_STR(wire_ps_more, ps.name), WIRE_STR(wire_ps_more, ps.domain)}},
};
/* clang-format on */

static const struct wire_desc *wire_desc(uint16_t type) {
  if (type >= sizeof(descs) / sizeof(descs[0]) || !descs[type].name) return NULL;
  return &descs[type];
}

int wire_body_size(uint16_t type) {
  const struct wire_desc *d = wire_desc(type);
  return d ? d->body : -1;
}

int wire_fds_allowed(uint16_t type) {
  const struct wire_desc *d = wire_desc(type);
  return d ? d->fds : 0;
}

const char *wire_type_name(uint16_t type) {
  const struct wire_desc *d = wire_desc(type);
  return d ? d->name : "?";
}

size_t wire_seal(struct wire_frame *f, uint16_t type, uint32_t serial) {
  int body = wire_body_size(type);
  f->hdr.magic = WIRE_MAGIC;
  f->hdr.version = WIRE_VERSION;
  f->hdr.type = type;
  f->hdr.len = (uint32_t)(sizeof(f->hdr) + (size_t)(body > 0 ? body : 0));
  f->hdr.serial = serial;
  return f->hdr.len;
}

static int wire_fail(int error, const char *text, const char **why) {
  if (why) *why = text;
  return error;
}

/* What all versions have in common; so nothing else is looked at before it, nor the packet's length. */
static int wire_check_version(const void *buf, size_t len, struct wire_hdr *hdr, const char **why) {
  if (len < sizeof(*hdr)) return wire_fail(-EPROTO, "shorter than a header", why);
  memcpy(hdr, buf, sizeof(*hdr));
  if (hdr->magic != WIRE_MAGIC) return wire_fail(-EPROTO, "bad magic", why);
  return hdr->version == WIRE_VERSION ? 0 : wire_fail(-EPROTONOSUPPORT, "another protocol version", why);
}

int wire_decode(const void *buf, size_t len, struct wire_frame *f, const char **why) {
  struct wire_hdr hdr;
  int r = wire_check_version(buf, len, &hdr, why);
  if (r < 0) return r;
  if (len > sizeof(*f)) return wire_fail(-EPROTO, "longer than any frame", why);
  if (hdr.len != len) return wire_fail(-EPROTO, "the header's length is not the packet's", why);
  const struct wire_desc *d = wire_desc(hdr.type);
  if (!d) return wire_fail(-EOPNOTSUPP, "unknown type", why);
  if (len != sizeof(hdr) + (size_t)d->body) return wire_fail(-EPROTO, "wrong length for its type", why);
  for (int i = 0; i < 2 && d->strings[i].size; i++) {
    const char *s = (const char *)buf + sizeof(hdr) + d->strings[i].at;
    if (!memchr(s, 0, d->strings[i].size)) return wire_fail(-EPROTO, "string without an end", why);
  }
  memset(f, 0, sizeof(*f));
  memcpy(f, buf, len);
  return 0;
}

/* Room for WIRE_FDS_MAX descriptors; padding may let one more through, which wire_take_fds closes. */
union wire_control {
  char space[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
  struct cmsghdr align;
};

int wire_send(int sock, const struct wire_frame *f, const int *fds, int nfds) {
  if (nfds < 0 || nfds > WIRE_FDS_MAX || f->hdr.len < sizeof(f->hdr) || f->hdr.len > sizeof(*f)) return -EINVAL;
  union wire_control control;
  struct iovec iov = {.iov_base = (void *)(uintptr_t)f, .iov_len = f->hdr.len};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  if (nfds > 0) {
    memset(&control, 0, sizeof(control));
    msg.msg_control = control.space;
    msg.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
  }
  long r;
  do r = raw_syscall3(SYS_sendmsg, sock, (long)&msg, MSG_NOSIGNAL);
  while (r == -EINTR);
  if (r < 0) return (int)r;
  return (uint32_t)r == f->hdr.len ? 0 : -EIO;
}

/* Moves the descriptors of a message to fds, closes what is over. Returns how many there were. */
static int wire_take_fds(struct msghdr *msg, int *fds, int *nfds) {
  int seen = 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++, seen++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      if (*nfds < WIRE_FDS_MAX)
        fds[(*nfds)++] = fd;
      else
        raw_syscall1(SYS_close, fd);
    }
  }
  return seen;
}

/* Nothing was received: an empty packet, or the end? */
static bool wire_is_end(int sock) {
  struct pollfd p = {.fd = sock, .events = POLLRDHUP};
  struct timespec now = {0};
  long r = raw_syscall5(SYS_ppoll, (long)&p, 1, (long)&now, 0, 8);
  return r != 0; /* where it can't be asked, too */
}

/* A packet that is not whole, or has more descriptors than any frame.  Of another version it may. */
static int wire_refuse(const void *buf, size_t len, const char **why) {
  struct wire_hdr hdr;
  int r = wire_check_version(buf, len, &hdr, why);
  return r == -EPROTONOSUPPORT ? r : wire_fail(-EPROTO, "longer than any frame, or too many descriptors", why);
}

int wire_recv(int sock, struct wire_frame *f, int fds[WIRE_FDS_MAX], int *nfds, const char **why) {
  union wire_control control;
  _Alignas(struct wire_frame) char buf[WIRE_MAX + 1];
  struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
  *nfds = 0;
  if (why) *why = "";
  long r;
  do r = raw_syscall3(SYS_recvmsg, sock, (long)&msg, MSG_CMSG_CLOEXEC);
  while (r == -EINTR);
  if (r < 0) return (int)r;
  int seen = wire_take_fds(&msg, fds, nfds), err = 0;
  if (r == 0 && seen == 0 && wire_is_end(sock))
    err = -EPIPE;
  else if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || seen > WIRE_FDS_MAX)
    err = wire_refuse(buf, (size_t)r, why);
  else
    err = wire_decode(buf, (size_t)r, f, why);
  if (err == 0 && seen > wire_fds_allowed(f->hdr.type)) err = wire_fail(-EPROTO, "more descriptors than its type may carry", why);
  if (err) {
    while (*nfds > 0) raw_syscall1(SYS_close, fds[--*nfds]);
  }
  return err;
}
