/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_RATION_H
#define RATION_RATION_H
/* All of ration's C API. */
#include <ration/chan.h>
#include <ration/debug.h>
#include <ration/g.h>

#endif
