/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CPULIVE_H
#define RATION_PRELOAD_CPULIVE_H

/* gate_ncpus, with a quota that is read again where nobody else does that. */
unsigned cpulive_ncpus(void);

#endif
