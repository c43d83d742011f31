/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_WHERE_H
#define RATION_FREE_WHERE_H
/* Where a signal has interrupted its thread. */
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* At a system call, or back from one. */
#if defined(__x86_64__)
static inline uintptr_t where_pc(const ucontext_t *uc) { return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP]; }
static inline uintptr_t where_sp(const ucontext_t *uc) { return (uintptr_t)uc->uc_mcontext.gregs[REG_RSP]; }
static inline bool where_at_call(uintptr_t pc) {
  const uint8_t *in = (const uint8_t *)pc; /* NOLINT(performance-no-int-to-ptr) */
  return (in[0] == 0x0f && in[1] == 0x05) || (in[-2] == 0x0f && in[-1] == 0x05);
}
#elif defined(__aarch64__)
static inline uintptr_t where_pc(const ucontext_t *uc) { return (uintptr_t)uc->uc_mcontext.pc; }
static inline uintptr_t where_sp(const ucontext_t *uc) { return (uintptr_t)uc->uc_mcontext.sp; }
static inline bool where_at_call(uintptr_t pc) {
  const uint32_t *in = (const uint32_t *)pc; /* NOLINT(performance-no-int-to-ptr) */
  return in[0] == 0xd4000001u || in[-1] == 0xd4000001u;
}
#endif

/* Ration's own code, from its first byte to its last. */
static inline bool where_ours(uintptr_t pc) {
  extern const char __ehdr_start[] __attribute__((visibility("hidden"))), etext[] __attribute__((visibility("hidden")));
  return pc - (uintptr_t)__ehdr_start < (uintptr_t)etext - (uintptr_t)__ehdr_start;
}

#endif
