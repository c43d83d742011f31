/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_RELAX_H
#define RATION_CORE_RELAX_H
/* Between two looks at what another CPU is about to write. */
static inline void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory"); /* yield is a no-op on most; isb waits about as long as x86's pause */
#endif
}
#endif
