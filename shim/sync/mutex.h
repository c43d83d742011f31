/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_MUTEX_H
#define RATION_SYNC_MUTEX_H
/* For the rest of shim/sync: a mutex locked within a limit (lot.h; null: none). */
struct ration_mutex;
struct limit;
int mutex_lock_limit(struct ration_mutex *m, const struct limit *lim);
#endif
