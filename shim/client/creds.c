/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a call that sets credentials has changed any: creds.h. */
#include "client/creds.h"
#include <linux/capability.h>
#include <string.h>
#include "core/sys.h"

#define GROUPS_MOST 256
#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

void creds_read(struct creds *c) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  uint32_t groups[GROUPS_MOST];
  memset(c, 0, sizeof *c);
  raw_syscall3(SYS_getresuid, (long)&c->uid[0], (long)&c->uid[1], (long)&c->uid[2]);
  raw_syscall3(SYS_getresgid, (long)&c->gid[0], (long)&c->gid[1], (long)&c->gid[2]);
  raw_syscall2(SYS_capget, (long)&header, (long)c->caps);
  long n = raw_syscall2(SYS_getgroups, GROUPS_MOST, (long)groups);
  c->known = n >= 0;
  c->groups = FNV_BASIS;
  for (long i = 0; i < n; i++) c->groups = (c->groups ^ groups[i]) * FNV_PRIME;
}

bool creds_same(const struct creds *a, const struct creds *b) {
  return a->known && b->known && memcmp(a->uid, b->uid, sizeof a->uid) == 0 && memcmp(a->gid, b->gid, sizeof a->gid) == 0 &&
         memcmp(a->caps, b->caps, sizeof a->caps) == 0 && a->groups == b->groups;
}
