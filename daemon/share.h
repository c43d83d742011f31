/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_SHARE_H
#define RATION_DAEMON_SHARE_H
/*
 * Weighted max-min fair division, flat and down a tree.  Pure: amounts in, amounts out.
 *
 * First every claim is filled up to its demand, the poorest (by weight) first,
 * until the capacity is gone.  What is left goes to all of them by weight, up
 * to their limits: a pool that just wakes up finds its part already there.
 */
#include <stddef.h>
#include <stdint.h>

#define SHARE_NO_LIMIT UINT64_MAX

struct share_claim {
  uint64_t demand;
  uint64_t limit;  /* SHARE_NO_LIMIT */
  uint32_t weight; /* 0 counts as 1 */
  uint64_t grant;  /* the answer */
};

/* Divides `capacity` among n claims; reorders the array of pointers. */
void share_split(struct share_claim **claims, size_t n, uint64_t capacity);

struct share_node {
  struct share_claim claim; /* of an inner node, demand is computed */
  struct share_node *child, *sibling;
};

/*
 * Divides `capacity` from the root down; every node's grant stays under its own limit and
 * under its parent's grant.  Returns 0 or -ENOMEM (then the grants are as before).
 */
int share_tree(struct share_node *root, uint64_t capacity);

#endif
