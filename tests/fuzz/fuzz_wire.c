/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a frame.  The first byte says what becomes of the rest: bit 0 puts a valid header before it (its
 * type and serial are the next two bytes), else the bytes are the whole packet; bit 1 sends the packet over a real socket
 * too; bit 2 makes the length in the header wrong.
 *
 * What must hold: nothing is read outside of the packet (ASan); what the decoder lets through has exactly the size
 * of its type, ends all its strings, and is the packet byte for byte; wire_recv judges as wire_decode does.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)        \
  do {                    \
    if (!(cond)) abort(); \
  } while (0)
#define ENDS(field) MUST(memchr((field), 0, sizeof(field)))
#define PACKET_MAX (2 * WIRE_MAX)

static void check_strings(const struct wire_frame *f) {
  switch (f->hdr.type) {
    case WIRE_HELLO:
      ENDS(f->u.hello.name);
      break;
    case WIRE_WELCOME:
      ENDS(f->u.welcome.daemon_version);
      break;
    case WIRE_ERROR:
      ENDS(f->u.error.text);
      break;
    case WIRE_QUOTA:
      ENDS(f->u.quota.domain);
      ENDS(f->u.quota.source);
      break;
    case WIRE_POOL:
      ENDS(f->u.pool.domain);
      break;
    case WIRE_PS:
      ENDS(f->u.ps.name);
      ENDS(f->u.ps.domain);
      break;
    case WIRE_PS_MORE:
      ENDS(f->u.ps_more.ps.name);
      ENDS(f->u.ps_more.ps.domain);
      break;
    case WIRE_STATS:
      ENDS(f->u.stats.bpf_error);
      ENDS(f->u.stats.version);
      break;
    default:
      break;
  }
}

static void check_accepted(const struct wire_frame *f, const void *packet, size_t len) {
  MUST(wire_body_size(f->hdr.type) >= 0);
  MUST(len == sizeof(f->hdr) + (size_t)wire_body_size(f->hdr.type));
  MUST(memcmp(f, packet, len) == 0);
  for (size_t i = len; i < sizeof(*f); i++) MUST(((const uint8_t *)f)[i] == 0);
  MUST(strcmp(wire_type_name(f->hdr.type), "?") != 0);
  check_strings(f);
  struct wire_frame again = *f;
  const uint8_t *bytes = (const uint8_t *)&again;
  MUST(wire_seal(&again, f->hdr.type, f->hdr.serial) == len);
  for (size_t i = 0; i < sizeof(again); i++) MUST(bytes[i] == ((const uint8_t *)f)[i]);
}

/* The same packet over a socket. */
static void check_received(const uint8_t *packet, size_t len, int verdict) {
  static struct wire_frame f;
  int sock[2], fds[WIRE_FDS_MAX], nfds = -1;
  const char *why = NULL;
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) == 0);
  MUST(send(sock[0], packet, len, 0) == (ssize_t)len);
  int r = wire_recv(sock[1], &f, fds, &nfds, &why);
  MUST(r == verdict);
  MUST(nfds == 0);
  if (r == 0) check_accepted(&f, packet, len);
  close(sock[0]);
  close(sock[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 4 || size > PACKET_MAX) return 0;
  uint8_t mode = data[0], type = data[1], skew = data[2];
  data += 3;
  size -= 3;
  size_t head = (mode & 1) ? sizeof(struct wire_hdr) : 0, len = head + size;
  int body = wire_body_size(type);
  /* with a header, mostly of the right length for its type: cut to it, or filled up with what is there */
  if (head && body >= 0 && skew < 200) len = head + (size_t)body;
  uint8_t *packet = malloc(len ? len : 1); /* its own block: a read past the end is seen */
  if (!packet) return 0;
  for (size_t i = head; i < len; i++) packet[i] = data[(i - head) % size];
  if (head) {
    struct wire_frame f;
    memset(&f, 0, sizeof(f));
    wire_seal(&f, type, skew);
    if (skew >= 230) f.hdr.len = (uint32_t)len;
    if (mode & 4) f.hdr.len += skew;
    memcpy(packet, &f.hdr, sizeof(f.hdr));
  }
  struct wire_frame f;
  const char *why = NULL;
  memset(&f, 0xa5, sizeof(f));
  int r = wire_decode(packet, len, &f, &why);
  MUST(r == 0 || r == -EPROTO || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP);
  MUST((r == 0) == (why == NULL));
  if (r == 0) check_accepted(&f, packet, len);
  if (mode & 2) check_received(packet, len, r);
  free(packet);
  return 0;
}
