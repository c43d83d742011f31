/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and addresses of hosts.  A light G that asks for them will wait, in system calls inside of libc that no wrapper sees: so the P's
 * queue is handed on before, as Go does for resolver calls through cgo.  The G keeps its thread until the call is over (libcall_begin).
 * A thread calls what it ever called.
 */
#include "preload/call.h"

#include <netdb.h>
#include <sys/socket.h>
#include "preload/lightio.h"

#define RESOLVE_CALLS(W)                                                                                                                \
  W(int, getaddrinfo, (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found),                   \
    (node, service, hints, found))                                                                                                      \
  W(int, getnameinfo,                                                                                                                   \
    (const struct sockaddr *at, socklen_t len, char *host, socklen_t hostlen, char *service, socklen_t servicelen, int flags),          \
    (at, len, host, hostlen, service, servicelen, flags))                                                                               \
  W(struct hostent *, gethostbyname, (const char *name), (name))                                                                        \
  W(struct hostent *, gethostbyname2, (const char *name, int family), (name, family))                                                   \
  W(struct hostent *, gethostbyaddr, (const void *at, socklen_t len, int family), (at, len, family))                                    \
  W(int, gethostbyname_r, (const char *name, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err),              \
    (name, host, buf, n, found, err))                                                                                                   \
  W(int, gethostbyname2_r, (const char *name, int family, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err), \
    (name, family, host, buf, n, found, err))                                                                                           \
  W(int, gethostbyaddr_r,                                                                                                               \
    (const void *at, socklen_t len, int family, struct hostent *host, char *buf, size_t n, struct hostent **found, int *err),           \
    (at, len, family, host, buf, n, found, err))

#define RESOLVE_REAL(ret, name, params, args) REAL_DEFINE_ONE(ret, name, params)
#define RESOLVE_WRAPPER(ret, name, params, args)  \
  EXPORT ret name params {                        \
    if (!light_running()) return REAL(name) args; \
    libcall_begin(WAIT_IO);                       \
    ret r = REAL(name) args;                      \
    libcall_end();                                \
    return r;                                     \
  }

RESOLVE_CALLS(RESOLVE_REAL)
RESOLVE_CALLS(RESOLVE_WRAPPER)
