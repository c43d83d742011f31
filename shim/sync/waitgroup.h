/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_WAITGROUP_H
#define RATION_SYNC_WAITGROUP_H
/* For the rest of shim/sync: waiting within a limit (lot.h; null: none). */
struct ration_waitgroup;
struct limit;
int waitgroup_wait_limit(struct ration_waitgroup *wg, const struct limit *lim);
#endif
