/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weighted max-min fair division.  See share.h.
 *
 * Water filling: sort by (room / weight), walk from the poorest; each either
 * fits under the level capacity_left * weight / weight_left and is filled, or it and
 * all after it get exactly that level.  O(n log n), integers only; what
 * rounding leaves over is given to the last one that has room.
 */
#include "share.h"
#include <errno.h>
#include <stdlib.h>
#include "util.h"

static uint64_t share_weight(const struct share_claim *c) { return c->weight ? c->weight : 1; }

static uint64_t share_wanted(const struct share_claim *c) { return UTIL_MIN(c->demand, c->limit); }

/* a / wa < b / wb without division; amounts are below 2^64 and weights below 2^32 */
static int share_compare(uint64_t a, uint64_t wa, uint64_t b, uint64_t wb) {
  unsigned __int128 x = (unsigned __int128)a * wb, y = (unsigned __int128)b * wa;
  return (x > y) - (x < y);
}

static int share_by_demand(const void *pa, const void *pb) {
  const struct share_claim *a = *(struct share_claim *const *)pa, *b = *(struct share_claim *const *)pb;
  return share_compare(share_wanted(a), share_weight(a), share_wanted(b), share_weight(b));
}

static int share_by_room(const void *pa, const void *pb) {
  const struct share_claim *a = *(struct share_claim *const *)pa, *b = *(struct share_claim *const *)pb;
  return share_compare(a->limit - a->grant, share_weight(a), b->limit - b->grant, share_weight(b));
}

/* Gives out up to `left`, no claim more than its room says.  Returns what nobody could take. */
static uint64_t share_pour(struct share_claim **claims, size_t n, uint64_t left, int to_limit) {
  uint64_t weights = 0;
  for (size_t i = 0; i < n; i++) weights += share_weight(claims[i]);
  for (size_t i = 0; i < n && left > 0; i++) {
    struct share_claim *c = claims[i];
    uint64_t room = (to_limit ? c->limit : share_wanted(c)) - c->grant;
    uint64_t level = (uint64_t)((unsigned __int128)left * share_weight(c) / weights);
    uint64_t give = UTIL_MIN(room, level);
    c->grant += give;
    left -= give;
    weights -= share_weight(c);
  }
  return left;
}

void share_split(struct share_claim **claims, size_t n, uint64_t capacity) {
  for (size_t i = 0; i < n; i++) claims[i]->grant = 0;
  if (n == 0) return;
  qsort(claims, n, sizeof(*claims), share_by_demand);
  uint64_t left = share_pour(claims, n, capacity, 0);
  if (left == 0) return;
  qsort(claims, n, sizeof(*claims), share_by_room);
  share_pour(claims, n, left, 1);
}

/* Sums up the demands of the leaves; saturates. */
static uint64_t share_demand(struct share_node *node) {
  if (!node->child) return share_wanted(&node->claim);
  uint64_t sum = 0;
  for (struct share_node *c = node->child; c; c = c->sibling) {
    uint64_t d = share_demand(c);
    sum = sum > UINT64_MAX - d ? UINT64_MAX : sum + d;
  }
  node->claim.demand = sum;
  return share_wanted(&node->claim);
}

static size_t share_widest(const struct share_node *node) {
  size_t n = 0, widest = 0;
  for (const struct share_node *c = node->child; c; c = c->sibling) {
    size_t below = share_widest(c);
    widest = UTIL_MAX(widest, below);
    n++;
  }
  return UTIL_MAX(n, widest);
}

static void share_down(struct share_node *node, struct share_claim **room) {
  size_t n = 0;
  for (struct share_node *c = node->child; c; c = c->sibling) room[n++] = &c->claim;
  share_split(room, n, node->claim.grant);
  for (struct share_node *c = node->child; c; c = c->sibling) share_down(c, room);
}

int share_tree(struct share_node *root, uint64_t capacity) {
  size_t widest = share_widest(root);
  _cleanup_free_ struct share_claim **room = calloc(widest ? widest : 1, sizeof(*room));
  if (!room) return -ENOMEM;
  share_demand(root);
  root->claim.grant = UTIL_MIN(capacity, root->claim.limit);
  share_down(root, room);
  return 0;
}
