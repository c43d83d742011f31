/* SPDX-License-Identifier: Apache-2.0 */
/* A file of its own: resolv.h has macros for names like p_type. */
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include "free/identity.h"

void identity_forget_libcs(void) {
  (void)dlerror(); /* said now, it is forgotten */
  h_errno = 0;
  if (!(_res.options & RES_INIT)) return;
  res_nclose(&_res);
  _res.options = 0; /* the rest stays, as with glibc */
}
