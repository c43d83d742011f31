/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/* Frames: sizes, strict decoding of every type, descriptors that ride along. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/util.h"
#include "proto/wire.h"

static const uint16_t types[] = {
    WIRE_HELLO,    WIRE_REGISTER_M, WIRE_UNREGISTER_M, WIRE_QUOTA_QUERY,   WIRE_POOL_QUERY, WIRE_PS_QUERY, WIRE_STATS_QUERY, WIRE_WELCOME,
    WIRE_OK,       WIRE_ERROR,      WIRE_QUOTA,        WIRE_POOL,          WIRE_PS,         WIRE_STATS,    WIRE_END,         WIRE_CHANGED,
    WIRE_REATTACH, WIRE_GS_QUERY,   WIRE_DUMP_GS,      WIRE_PS_MORE_QUERY, WIRE_PS_MORE,
};
#define NTYPES (sizeof(types) / sizeof(types[0]))

/* Where a type's strings are: offset in the body, size. */
static const struct {
  uint16_t type;
  size_t at, size;
} strings[] = {
    {WIRE_HELLO, offsetof(struct wire_hello, name), 64},
    {WIRE_WELCOME, offsetof(struct wire_welcome, daemon_version), 32},
    {WIRE_ERROR, offsetof(struct wire_error, text), 248},
    {WIRE_QUOTA, offsetof(struct wire_quota, domain), 256},
    {WIRE_QUOTA, offsetof(struct wire_quota, source), 256},
    {WIRE_POOL, offsetof(struct wire_pool, domain), 256},
    {WIRE_PS, offsetof(struct wire_ps, name), 64},
    {WIRE_PS, offsetof(struct wire_ps, domain), 256},
    {WIRE_PS_MORE, offsetof(struct wire_ps_more, ps.name), 64},
    {WIRE_PS_MORE, offsetof(struct wire_ps_more, ps.domain), 256},
    {WIRE_STATS, offsetof(struct wire_stats, bpf_error), 200},
    {WIRE_STATS, offsetof(struct wire_stats, version), 32},
};

static size_t sealed(struct wire_frame *f, uint16_t type) {
  memset(f, 0, sizeof(*f));
  return wire_seal(f, type, 42);
}

START_TEST(every_type_survives_the_way_there_and_back) {
  for (size_t i = 0; i < NTYPES; i++) {
    struct wire_frame a, b;
    size_t len = sealed(&a, types[i]);
    int body = wire_body_size(types[i]);
    ck_assert_int_ge(body, 0);
    ck_assert_uint_eq(len, sizeof(struct wire_hdr) + (size_t)body);
    memset((char *)&a + sizeof(a.hdr), 0, (size_t)body);
    if (body >= 8) memset((char *)&a + sizeof(a.hdr), 0xab, 4);
    memset(&b, 0x55, sizeof(b));
    ck_assert_int_eq(wire_decode(&a, len, &b, NULL), 0);
    ck_assert_mem_eq(&a, &b, len);
    ck_assert_str_ne(wire_type_name(types[i]), "?");
  }
}
END_TEST

START_TEST(every_wrong_length_is_refused) {
  char buf[WIRE_MAX * 2];
  for (size_t i = 0; i < NTYPES; i++) {
    struct wire_frame f, out;
    size_t right = sealed(&f, types[i]);
    memset(buf, 0, sizeof(buf));
    memcpy(buf, &f, right);
    for (size_t len = 0; len <= sizeof(buf); len++) {
      const char *why = NULL;
      if (len == right) continue;
      ck_assert_int_eq(wire_decode(buf, len, &out, &why), -EPROTO); /* the header says otherwise */
      ck_assert_ptr_nonnull(why);
      if (len < sizeof(f.hdr) || len > sizeof(f)) continue;
      struct wire_frame lie = f; /* the header agrees, the type does not */
      lie.hdr.len = (uint32_t)len;
      memcpy(buf, &lie, sizeof(lie.hdr));
      ck_assert_int_eq(wire_decode(buf, len, &out, NULL), -EPROTO);
      memcpy(buf, &f, sizeof(f.hdr));
    }
  }
}
END_TEST

START_TEST(every_unknown_type_is_refused) {
  for (uint32_t type = 0; type <= 0xffff; type++) {
    bool known = false;
    for (size_t i = 0; i < NTYPES; i++) known |= types[i] == type;
    ck_assert_int_eq(wire_body_size((uint16_t)type) >= 0, known);
    if (known) continue;
    struct wire_frame f, out;
    size_t len = sealed(&f, (uint16_t)type);
    ck_assert_int_eq(wire_decode(&f, len, &out, NULL), -EOPNOTSUPP);
    ck_assert_str_eq(wire_type_name((uint16_t)type), "?");
    ck_assert_int_eq(wire_fds_allowed((uint16_t)type), 0);
  }
}
END_TEST

START_TEST(other_magic_and_versions_are_refused) {
  struct wire_frame f, out;
  size_t len = sealed(&f, WIRE_OK);
  for (uint32_t v = 0; v <= 0xffff; v++) {
    f.hdr.version = (uint16_t)v;
    ck_assert_int_eq(wire_decode(&f, len, &out, NULL), v == WIRE_VERSION ? 0 : -EPROTONOSUPPORT);
  }
  f.hdr.version = WIRE_VERSION;
  for (int bit = 0; bit < 32; bit++) {
    f.hdr.magic = WIRE_MAGIC ^ 1u << bit;
    ck_assert_int_eq(wire_decode(&f, len, &out, NULL), -EPROTO);
  }
  /* The version is looked at before anything that another version may have changed. */
  f.hdr = (struct wire_hdr){.magic = WIRE_MAGIC, .version = 9, .type = 999, .len = 3};
  ck_assert_int_eq(wire_decode(&f, sizeof(f.hdr), &out, NULL), -EPROTONOSUPPORT);
  char longer[WIRE_MAX * 2] = {0};
  memcpy(longer, &f.hdr, sizeof(f.hdr));
  for (size_t n = sizeof(f.hdr); n <= sizeof(longer); n += 8) ck_assert_int_eq(wire_decode(longer, n, &out, NULL), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(strings_must_end) {
  for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
    struct wire_frame f, out;
    size_t len = sealed(&f, strings[i].type);
    char *s = (char *)&f + sizeof(f.hdr) + strings[i].at;
    memset(s, 'x', strings[i].size);
    ck_assert_int_eq(wire_decode(&f, len, &out, NULL), -EPROTO);
    s[strings[i].size - 1] = 0;
    ck_assert_int_eq(wire_decode(&f, len, &out, NULL), 0);
  }
}
END_TEST

static void pair(int sv[2]) { ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0); }

static int open_fds(void) {
  int n = 0;
  for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

START_TEST(descriptors_arrive_with_cloexec) {
  int sv[2], got[WIRE_FDS_MAX], n;
  pair(sv);
  struct wire_frame f, out;
  sealed(&f, WIRE_WELCOME);
  int fds[3] = {0, 1, 2};
  for (int k = 0; k <= 3; k++) {
    ck_assert_int_eq(wire_send(sv[0], &f, fds, k), 0);
    ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, NULL), 0);
    ck_assert_int_eq(n, k);
    for (int i = 0; i < n; i++) {
      ck_assert_int_eq(fcntl(got[i], F_GETFD), FD_CLOEXEC);
      close(got[i]);
    }
  }
  ck_assert_int_eq(wire_send(sv[0], &f, fds, 4), -EINVAL);
  ck_assert_int_eq(wire_send(sv[0], &f, fds, -1), -EINVAL);
}
END_TEST

/* By hand, since wire_send would not. */
static void send_fds(int sock, const void *buf, size_t len, int nfds) {
  char control[CMSG_SPACE(64 * sizeof(int))];
  memset(control, 0, sizeof(control));
  struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int))};
  struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
  for (int i = 0; i < nfds; i++) memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){0}, sizeof(int));
  ck_assert_int_eq(sendmsg(sock, &msg, 0), (ssize_t)len);
}

START_TEST(surplus_descriptors_are_closed) {
  int sv[2], got[WIRE_FDS_MAX], n;
  pair(sv);
  struct wire_frame f, out;
  int before = open_fds();
  for (size_t i = 0; i < NTYPES; i++) {
    size_t len = sealed(&f, types[i]);
    for (int k = 1; k <= 64; k = k < 5 ? k + 1 : k * 2) {
      send_fds(sv[0], &f, len, k);
      int r = wire_recv(sv[1], &out, got, &n, NULL);
      if (k <= wire_fds_allowed(types[i])) {
        ck_assert_int_eq(r, 0);
        ck_assert_int_eq(n, k);
        while (n > 0) close(got[--n]);
      } else {
        ck_assert_int_eq(r, -EPROTO);
        ck_assert_int_eq(n, 0);
      }
      ck_assert_int_eq(open_fds(), before);
    }
  }
  send_fds(sv[0], "rubbish", 7, 3);
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, NULL), -EPROTO);
  ck_assert_int_eq(open_fds(), before);
}
END_TEST

START_TEST(ends_and_errors_are_told_apart) {
  int sv[2], got[WIRE_FDS_MAX], n;
  const char *why;
  struct wire_frame f, out;
  pair(sv);
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, &why), -EAGAIN);
  char big[WIRE_MAX + 200] = {0};
  ck_assert_int_eq(send(sv[0], big, sizeof(big), 0), sizeof(big));
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, &why), -EPROTO);
  memcpy(big, &(struct wire_hdr){.magic = WIRE_MAGIC, .version = 2}, sizeof(struct wire_hdr));
  ck_assert_int_eq(send(sv[0], big, sizeof(big), 0), sizeof(big));
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, &why), -EPROTONOSUPPORT);
  ck_assert_int_eq(send(sv[0], "", 0, 0), 0); /* no end */
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, &why), -EPROTO);
  ck_assert_str_eq(why, "shorter than a header");
  close(sv[0]);
  ck_assert_int_eq(wire_recv(sv[1], &out, got, &n, &why), -EPIPE);
  sealed(&f, WIRE_OK);
  ck_assert_int_eq(wire_send(sv[1], &f, NULL, 0), -EPIPE); /* and no SIGPIPE, or this process were dead */
  ck_assert_int_eq(wire_send(-1, &f, NULL, 0), -EBADF);
}
END_TEST

START_TEST(errno_is_left_alone) {
  int got[WIRE_FDS_MAX], n;
  struct wire_frame f, out;
  sealed(&f, WIRE_OK);
  errno = 12345;
  wire_send(-1, &f, NULL, 0);
  wire_recv(-1, &out, got, &n, NULL);
  ck_assert_int_eq(errno, 12345);
}
END_TEST

UNIT_MAIN("wire", every_type_survives_the_way_there_and_back, every_wrong_length_is_refused, every_unknown_type_is_refused,
          other_magic_and_versions_are_refused, strings_must_end, descriptors_arrive_with_cloexec, surplus_descriptors_are_closed,
          ends_and_errors_are_told_apart, errno_is_left_alone)
