/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tp.h"
#include <dlfcn.h>
#include <stddef.h>

size_t tp_static_bytes(void) {
  static _Atomic size_t known; /* relaxed: all who look find the same */
  size_t size = atomic_load_explicit(&known, memory_order_relaxed), align = 0;
  if (size) return size;
  void (*info)(size_t *, size_t *) = (void (*)(size_t *, size_t *))dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
  if (info) info(&size, &align);
  size += TP_STATIC_LEAST; /* a libc that does not say has no more than that, as a rule */
  size = (size + 4095) & ~(size_t)4095;
  atomic_store_explicit(&known, size, memory_order_relaxed);
  return size;
}
