/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_TRACE_H
#define RATION_CORE_TRACE_H
#include <stdbool.h>
#include <stdint.h>

/* Reads RATION_DEBUG: "schedtrace=MS[,scheddetail=1][,tracefile=PATH]".  Before any service thread starts. */
void trace_init(const char *debug);
/* It says that there is to be one. */
bool trace_wanted(void);
/* The descriptor that sysmon is to have for it (given to service_start as descriptor 0), or -1. */
int trace_open(void);

#endif
