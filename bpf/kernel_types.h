/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef RATION_BPF_KERNEL_TYPES_H
#define RATION_BPF_KERNEL_TYPES_H
/*
 * What watch.bpf.c needs to know of the kernel, and no more: the fixed-width
 * types, some constants of the user API, and the few fields of the few structs
 * that it reads.  The field offsets here mean nothing: CO-RE puts in those of the
 * running kernel when the program is loaded, so neither the build machine's kernel
 * nor a vmlinux.h is needed.
 */
typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __u64 uint64_t;
#define bool _Bool
#define true 1
#define false 0

/* enum bpf_map_type, map and helper flags: user API, never renumbered */
enum {
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_HASH_OF_MAPS = 13,
  BPF_MAP_TYPE_RINGBUF = 27,
  BPF_MAP_TYPE_TASK_STORAGE = 29,
};
#define BPF_F_NO_PREALLOC (1u << 0)
#define BPF_F_MMAPABLE (1u << 10)
#define BPF_F_INNER_MAP (1u << 12)
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1ull
#define BPF_RB_FORCE_WAKEUP (1ull << 1)

/* kernel's enum pid_type: whom a signal is for */
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID };

#define CLONE_THREAD 0x00010000ull
#define PF_KTHREAD 0x00200000u
#define SIGURG 23
#define SIG_IGN 1
#define PID_LEVELS_MAX 32 /* MAX_PID_NS_LEVEL */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct upid {
  int nr;
};

struct pid {
  unsigned int level;
  struct upid numbers[1]; /* one for each level of pid namespace, the outermost first */
};

typedef struct {
  __u32 val;
} kuid_t;

struct cred {
  kuid_t euid;
};

/* What a process does with its signals. */
struct sigaction {
  void (*sa_handler)(int);
};

struct k_sigaction {
  struct sigaction sa;
};

struct sighand_struct {
  struct k_sigaction action[64];
};

struct task_struct {
  unsigned int __state;
  unsigned int flags;
  struct pid *thread_pid;
  const struct cred *real_cred;
  struct sighand_struct *sighand;
};

/* The registers that a thread had when it came from user mode, per architecture; the loader sees which one exists. */
struct pt_regs___on_x86 {
  unsigned long cs;
  unsigned long orig_ax;
};
struct pt_regs___on_arm64 {
  __u64 pstate;
  __s32 syscallno;
};

struct bpf_iter__task {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
};

#pragma clang attribute pop

#endif
