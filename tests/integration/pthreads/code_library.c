/* SPDX-License-Identifier: Apache-2.0 */
/* What local.c loads while threads exist, linked so that it wants all stacks to be executable: as compilers do for functions within functions whose address is taken. */
#include <string.h>
#include "tls_library.h"

#if defined(__x86_64__)
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
#elif defined(__aarch64__)
static const unsigned code[] = {0x52800540, 0xd65f03c0}; /* mov w0, #42; ret */
#endif

int code_on_stack(void) {
  char copy[sizeof code] __attribute__((aligned(16)));
  int (*fn)(void);
  char *at = copy;
  memcpy(copy, code, sizeof code);
  __builtin___clear_cache(copy, copy + sizeof copy);
  memcpy(&fn, &at, sizeof fn);
  return fn();
}
