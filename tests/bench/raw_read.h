/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_RAW_READ_H
#define RATION_RAW_READ_H
#include <stddef.h>
#include <sys/syscall.h>

/* read(2) by an instruction of its own: no wrapper and no libc sees it.  The result is -errno if it fails. */
static inline long raw_read(int fd, void *buf, size_t len) {
  long r;
#if defined(__x86_64__)
  __asm__ volatile("syscall" : "=a"(r) : "0"((long)SYS_read), "D"((long)fd), "S"(buf), "d"(len) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = SYS_read, x0 __asm__("x0") = fd, x1 __asm__("x1") = (long)buf, x2 __asm__("x2") = (long)len;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  r = x0;
#else
#error "no raw system call for this machine"
#endif
  return r;
}

#endif
