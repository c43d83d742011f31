/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PROTO_WIRE_H
#define RATION_PROTO_WIRE_H
/*
 * Frames between rationd and its clients (shim, CLI), over SOCK_SEQPACKET.
 * One packet is one frame: struct wire_hdr, then the message named by its type,
 * little endian, at its exact size; descriptors ride along by SCM_RIGHTS.  Who the peer is comes
 * from the kernel (SO_PEERCRED, SO_PEERPIDFD where there is one), never from a message.
 * docs/protocol.md says it for clients in other languages.
 *
 * Strings are fixed fields, always NUL-terminated; the decoder checks that.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC 0x4e544152u /* "RATN" */
#define WIRE_VERSION 1u
#define WIRE_MAX 1024u /* bytes of the largest frame */
#define WIRE_FDS_MAX 3
#define WIRE_SOCKET_PATH "/run/ration/rationd.sock"

enum wire_type {
  /* client -> daemon */
  WIRE_HELLO = 1,         /* attach this process; -> WIRE_WELCOME or WIRE_ERROR */
  WIRE_REGISTER_M = 2,    /* + 1 fd: thread pidfd; -> WIRE_OK or WIRE_ERROR */
  WIRE_UNREGISTER_M = 3,  /* + 1 fd: thread pidfd; -> WIRE_OK or WIRE_ERROR */
  WIRE_QUOTA_QUERY = 4,   /* -> WIRE_QUOTA */
  WIRE_POOL_QUERY = 5,    /* -> WIRE_POOL..., WIRE_END */
  WIRE_PS_QUERY = 6,      /* -> WIRE_PS..., WIRE_END */
  WIRE_STATS_QUERY = 7,   /* -> WIRE_STATS */
  WIRE_GS_QUERY = 8,      /* + 1 fd: a pipe; -> WIRE_OK once the process has it, or WIRE_ERROR */
  WIRE_PS_MORE_QUERY = 9, /* -> WIRE_PS_MORE..., WIRE_END; a daemon that does not know it answers EOPNOTSUPP and hangs up */
  /* daemon -> client */
  WIRE_WELCOME = 64, /* + fds: pool page; then, if WIRE_WELCOME_BPF, M map and ring buffer */
  WIRE_OK = 65,
  WIRE_ERROR = 66,
  WIRE_QUOTA = 67,
  WIRE_POOL = 68,
  WIRE_PS = 69,
  WIRE_STATS = 70,
  WIRE_END = 71,
  WIRE_CHANGED = 72,  /* unasked: the domain's quota, or flags or CPUs in the page's owner block, changed; the bell was rung as well */
  WIRE_REATTACH = 73, /* unasked: the process belongs to another pool now: say HELLO again on this connection */
  WIRE_DUMP_GS = 74,  /* unasked, + 1 fd: write what all light and thread Gs do into this pipe, then close it */
  WIRE_PS_MORE = 75,
};

struct wire_hdr {
  uint32_t magic;
  uint16_t version;
  uint16_t type;
  uint32_t len;    /* of the whole frame */
  uint32_t serial; /* chosen by the client; the answer carries it; 0 in what comes unasked */
};

#define WIRE_HELLO_RESUME 1u /* + fd 0: the pool page of an earlier daemon, member/gen say which member we were */
#define WIRE_HELLO_NO_BPF 2u /* polling is wanted (tests, RATION_BPF=0) */
#define WIRE_HELLO_OFF 4u    /* RATION_THREADS=off */
#define WIRE_HELLO_FREE 8u   /* RATION_THREADS=free; older daemons don't look at it */
struct wire_hello {
  uint32_t flags;
  uint32_t m_slots; /* wanted; bounded by M_SLOTS_MIN..MAX, rounded up to a power of two */
  uint32_t member;  /* with RESUME */
  uint32_t gen;     /* with RESUME */
  char name[64];    /* of the program, for display */
};

#define WIRE_WELCOME_BPF 1u
#define WIRE_WELCOME_RESUMED 2u /* the page that was handed in goes on; no page fd comes with this answer */
struct wire_welcome {
  uint32_t flags;
  uint32_t member;
  uint32_t gen;
  uint32_t page_size;
  uint32_t m_slots; /* of the M map, 0 without BPF */
  uint32_t ring_size;
  char daemon_version[32];
};

struct wire_register_m {
  uint32_t slot;
  uint32_t pad;
};

struct wire_error {
  int32_t error; /* positive errno */
  uint32_t pad;
  char text[248];
};

struct wire_quota_query {
  uint32_t pid; /* in the caller's own pid namespace?  No: in the daemon's.  0: the caller */
  uint32_t pad;
};

struct wire_gs_query {
  uint32_t pid; /* as the daemon sees it */
  uint32_t pad;
};

#define WIRE_QUOTA_LIMITED 1u  /* a CFS quota applies */
#define WIRE_QUOTA_WEIGHTED 2u /* no quota: the share comes from weights */
struct wire_quota {
  uint32_t pid;
  uint32_t flags;
  uint32_t cgroup_version; /* 1 or 2 (hybrid: of the hierarchy that has cpu) */
  uint32_t slots;
  uint64_t cpu_micro; /* CPUs of the domain, in millionths */
  uint32_t duty_ppm;  /* of the last slot, in millionths: 500000 for 1.5 CPUs */
  uint32_t cpus_allowed;
  uint64_t quota_us; /* of the file that decided */
  uint64_t period_us;
  uint64_t nr_periods;
  uint64_t nr_throttled;
  uint64_t throttled_us;
  char domain[256]; /* cgroup path of the domain */
  char source[256]; /* file that said so */
};

struct wire_pool {
  uint32_t uid;
  uint32_t flags; /* POOL_F_* */
  uint32_t nslots;
  uint32_t nexpress;
  uint32_t held;
  uint32_t members;
  uint32_t waiting; /* Gs that wait in all its members */
  uint32_t rate;
  int64_t tokens_us;
  uint64_t charged_ns;
  uint64_t cpu_micro;       /* of the whole domain */
  uint64_t strangers_micro; /* CPUs that others of the cgroup use, measured */
  uint32_t rung[4];         /* members on each rung: [0] unused, POOL_RUNG_* */
  uint32_t weight;
  uint32_t id; /* the same in wire_ps_more.pool of its members; 0: from an older daemon */
  char domain[256];
};

struct wire_ps {
  uint32_t pid;
  uint32_t uid;
  uint32_t rung;
  uint32_t flags;
  uint32_t gs, ms, held, waiting;
  uint64_t cpu_ns; /* charged */
  uint64_t handoffs, retakes, preempts, wakeups, pauses;
  uint64_t since_ns; /* attached for so long */
  char name[64];
  char domain[256];
};

#define WIRE_WIRED_MAX 13u
struct wire_ps_more {
  struct wire_ps ps;
  uint32_t thread_gs;             /* free mode: thread Gs without a kernel thread of their own */
  uint32_t nwired;                /* of the next, how many the daemon knows; at most WIRE_WIRED_MAX */
  uint32_t wired[WIRE_WIRED_MAX]; /* by reason: wired.h */
  uint32_t pool;                  /* wire_pool.id of its pool; 0: from an older daemon */
};

struct wire_stats {
  uint64_t uptime_ns;
  uint64_t attaches, resumes, deaths, expropriations, malformed, refused;
  uint64_t quota_changes, moves;
  uint32_t clients, pools, domains, bpf; /* bpf: 1 loaded */
  char bpf_error[200];                   /* why not */
  char version[32];
};

struct wire_frame {
  struct wire_hdr hdr;
  union {
    struct wire_hello hello;
    struct wire_register_m register_m;
    struct wire_quota_query quota_query;
    struct wire_gs_query gs_query;
    struct wire_welcome welcome;
    struct wire_error error;
    struct wire_quota quota;
    struct wire_pool pool;
    struct wire_ps ps;
    struct wire_ps_more ps_more;
    struct wire_stats stats;
  } u;
};

_Static_assert(sizeof(struct wire_hdr) == 16, "no padding");
_Static_assert(sizeof(struct wire_frame) <= WIRE_MAX, "fits the limit");

/* Size of the message after the header for a type, or -1 for an unknown type. */
int wire_body_size(uint16_t type);
/* How many descriptors a frame of this type may carry at most. */
int wire_fds_allowed(uint16_t type);
/* Name of a type for logs; "?" if unknown. */
const char *wire_type_name(uint16_t type);

/*
 * Fills in the header of `f` for `type` (and zeroes nothing).  Returns the frame's length.
 */
size_t wire_seal(struct wire_frame *f, uint16_t type, uint32_t serial);

/*
 * Checks a received packet of `len` bytes at `buf` and copies it to `f`.
 * Returns 0; -EPROTO (bad magic, length, unterminated string), -EPROTONOSUPPORT (version),
 * -EOPNOTSUPP (unknown type).  `why`, if not null, gets a static text.
 */
int wire_decode(const void *buf, size_t len, struct wire_frame *f, const char **why);

/*
 * Send and receive one frame on a SOCK_SEQPACKET socket.  fds are borrowed on
 * send; on receive at most WIRE_FDS_MAX come back, CLOEXEC, owned by the
 * caller, surplus ones are closed.  Both restart on EINTR and never raise SIGPIPE; neither
 * allocates nor touches errno's value on success.  Return 0, -errno; wire_recv returns -EPIPE at
 * the end of the stream, and wire_decode's errors.
 */
int wire_send(int sock, const struct wire_frame *f, const int *fds, int nfds);
int wire_recv(int sock, struct wire_frame *f, int fds[WIRE_FDS_MAX], int *nfds, const char **why);

#endif
