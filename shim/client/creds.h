/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLIENT_CREDS_H
#define RATION_CLIENT_CREDS_H
#include <stdbool.h>
#include <stdint.h>

/* A thread's credentials, as far as they matter to what it may do for us. */
struct creds {
  uint32_t uid[3], gid[3], caps[6];
  uint64_t groups; /* a hash */
  bool known;      /* else there are too many groups to tell */
};
/* The caller's.  Raw system calls only. */
void creds_read(struct creds *c);
bool creds_same(const struct creds *a, const struct creds *b);

#endif
