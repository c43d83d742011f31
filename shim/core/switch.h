/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SWITCH_H
#define RATION_CORE_SWITCH_H
/*
 * The context switch of light Gs: callee-saved registers and the control words of the floating-point units, pushed on the stack that is
 * left.  No signal mask, no thread pointer: those belong to the M.
 */
#include <stdint.h>

/* Saves the caller's registers on its stack and the stack pointer in *save; goes on where `load` was saved. */
void ration_switch(void **save, void *load) __asm__("ration_switch_") __attribute__((visibility("hidden")));
/* Where a new G begins: calls the function in the frame that switch_new has made. */
void ration_g_entry(void) __asm__("ration_g_entry_") __attribute__((visibility("hidden")));

/* The frame of a G that has not run yet: it begins with body(), which never returns, on the stack below `top` (aligned to 16). */
static inline void *switch_new(void *top, void (*body)(void)) {
#if defined(__x86_64__)
  /* ascending: mxcsr and x87 word, r15, r14, r13, r12, rbx, rbp, return address, and a zero for whoever unwinds */
  uint64_t *f = (uint64_t *)top - 10;
  for (int i = 0; i < 10; i++) f[i] = 0;
  f[0] = 0x1f80u | (uint64_t)0x037f << 32; /* the ABI's values at program start */
  f[4] = (uint64_t)(uintptr_t)body;        /* r12 */
  f[7] = (uint64_t)(uintptr_t)ration_g_entry;
  return f;
#elif defined(__aarch64__)
  /* ascending: x19 .. x30, d8 .. d15, fpcr, pad */
  uint64_t *f = (uint64_t *)top - 22;
  for (int i = 0; i < 22; i++) f[i] = 0;
  f[0] = (uint64_t)(uintptr_t)body;            /* x19 */
  f[11] = (uint64_t)(uintptr_t)ration_g_entry; /* x30 */
  return f;
#else
#error "ration runs on x86-64 and aarch64"
#endif
}

/* It begins with the caller's rounding and exceptions, as a thread does. */
static inline void switch_inherit(void *sp) {
  uint64_t *f = sp;
#if defined(__x86_64__)
  uint32_t mxcsr;
  uint16_t x87;
  __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
  __asm__ volatile("fnstcw %0" : "=m"(x87));
  f[0] = mxcsr | (uint64_t)x87 << 32;
#else
  __asm__ volatile("mrs %0, fpcr" : "=r"(f[20]));
#endif
}

/* Of a G that is not running: where it goes on. */
static inline uintptr_t switch_pc(const void *sp) {
#if defined(__x86_64__)
  return ((const uintptr_t *)sp)[7];
#else
  return ((const uintptr_t *)sp)[11];
#endif
}

#endif
