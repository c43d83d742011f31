/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_RATION_H
#define RATION_RATION_H
/*
 * All of ration's C API, for gcc and clang:
 *
 *   C99, C++11 and newer   all headers and functions, also with -pedantic
 *   C11, C++11 and newer   channels with types (RATION_CHAN, RATION_SEND ...): they use __typeof__, _Generic, statement expressions
 */
#include <ration/chan.h>
#include <ration/context.h>
#include <ration/debug.h>
#include <ration/g.h>
#include <ration/group.h>
#include <ration/map.h>
#include <ration/objpool.h>
#include <ration/sync.h>
#include <ration/timer.h>
#include <ration/workers.h>

#endif
