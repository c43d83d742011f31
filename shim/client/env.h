/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLIENT_ENV_H
#define RATION_CLIENT_ENV_H
#include <stdbool.h>
#include <stdint.h>
#include "core/gate.h"

/* What the environment asked for; read once, in the constructor. */
struct client_env {
  enum ration_mode mode;
  bool standalone;     /* RATION_STANDALONE=1 */
  bool no_bpf;         /* RATION_BPF=0 */
  uint32_t maxprocs;   /* RATION_MAXPROCS; 0: none */
  uint32_t maxthreads; /* RATION_MAXTHREADS; 0: none */
  char socket[108];
  char name[64];
};
extern struct client_env client_env_now;

#endif
