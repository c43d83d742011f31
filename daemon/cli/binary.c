/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kind of program a command is.  Files are as hostile as their owners: headers go through libelf,
 * which checks bounds; a script may lead to a script only as often as the kernel allows.
 */
#include "daemon/cli/binary.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include "daemon/util.h"

#define SCRIPTS_MAX 5                /* as in the kernel's exec */
#define SHEBANG_MAX 255              /* BINPRM_BUF_SIZE less one */
#define SCAN_MAX ((size_t)256 << 20) /* of a static program searched for knobs */
#define INTERP_MAX PATH_MAX
#define DEFAULT_PATH "/bin:/usr/bin" /* what execvp uses without PATH */

const char *const binary_knob_name[KNOB_COUNT] = {
    [KNOB_GOMAXPROCS] = "GOMAXPROCS",   [KNOB_OMP] = "OMP_NUM_THREADS",        [KNOB_OPENBLAS] = "OPENBLAS_NUM_THREADS",
    [KNOB_RAYON] = "RAYON_NUM_THREADS", [KNOB_TOKIO] = "TOKIO_WORKER_THREADS", [KNOB_DOTNET] = "DOTNET_PROCESSOR_COUNT",
};

/* ---- finding the command ---- */

/* 0 if execve would take the file, else -errno. */
static int runnable(const char *path) {
  struct stat st;
  if (stat(path, &st) < 0) return -errno;
  if (S_ISDIR(st.st_mode)) return -EISDIR;
  if (!S_ISREG(st.st_mode)) return -EACCES;
  /* The effective ids count for execve, the real ones for access(). */
  return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int find_in_path(const char *cmd, const char *dirs, struct binary_path *path) {
  int err = -ENOENT;
  struct binary_path p;
  for (const char *d = dirs;; d++) {
    size_t len = strcspn(d, ":");
    int n = snprintf(p.text, sizeof(p.text), "%.*s%s%s", (int)len, d, len ? "/" : "", cmd);
    int r = n < (int)sizeof(p.text) ? runnable(p.text) : -ENAMETOOLONG;
    if (r == 0 || (r == -EACCES && err == -ENOENT)) *path = p;
    if (r == 0) return 0;
    if (r == -EACCES) err = r; /* like execvp: go on, but remember it */
    d += len;
    if (!*d) return err;
  }
}

int binary_find(const char *cmd, struct binary_path *path) {
  path->text[0] = 0;
  if (!*cmd) return -ENOENT;
  if (!strchr(cmd, '/')) {
    const char *dirs = getenv("PATH");
    return find_in_path(cmd, dirs ? dirs : DEFAULT_PATH, path);
  }
  if (strlen(cmd) >= sizeof(path->text)) return -ENAMETOOLONG;
  int r = runnable(cmd);
  strcpy(path->text, cmd);
  return r;
}

/* ---- ELF ---- */

static void set_kind(struct binary *b, enum binary_kind kind, const char *why) {
  b->kind = kind;
  snprintf(b->why, sizeof(b->why), "%s", why);
}

static unsigned own_machine(void) {
#if defined(__x86_64__)
  return EM_X86_64;
#elif defined(__aarch64__)
  return EM_AARCH64;
#else
#error "which ELF machine is this?"
#endif
}

static bool check_machine(struct binary *b, const GElf_Ehdr *eh) {
  if (eh->e_machine == own_machine() && eh->e_ident[EI_CLASS] == ELFCLASS64) return true;
  if (eh->e_ident[EI_CLASS] == ELFCLASS32)
    set_kind(b, BINARY_OTHER_ARCH, "is a 32-bit program");
  else
    set_kind(b, BINARY_OTHER_ARCH, "is of another architecture");
  return false;
}

/* Reads the path of the dynamic loader; false if there is none. */
static bool read_interp(Elf *elf, int fd, size_t nph, char interp[INTERP_MAX]) {
  for (size_t i = 0; i < nph; i++) {
    GElf_Phdr ph;
    if (!gelf_getphdr(elf, (int)i, &ph) || ph.p_type != PT_INTERP) continue;
    size_t len = UTIL_MIN(ph.p_filesz, (size_t)INTERP_MAX - 1);
    ssize_t n = pread(fd, interp, len, (off_t)ph.p_offset);
    interp[n > 0 ? n : 0] = 0;
    return true;
  }
  return false;
}

/* Without PT_INTERP, a shared object that doesn't call itself a program is the dynamic loader itself, run by name. */
static bool is_loader(Elf *elf, const GElf_Ehdr *eh, const char *path) {
  if (eh->e_type != ET_DYN) return false;
  const char *base = strrchr(path, '/');
  base = base ? base + 1 : path;
  if (strncmp(base, "ld-", 3) != 0 && strncmp(base, "ld.so", 5) != 0) return false;
  Elf_Scn *scn = NULL;
  while ((scn = elf_nextscn(elf, scn))) {
    GElf_Shdr sh;
    if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_DYNAMIC || sh.sh_entsize == 0) continue;
    Elf_Data *data = elf_getdata(scn, NULL);
    for (size_t i = 0; data && i < sh.sh_size / sh.sh_entsize; i++) {
      GElf_Dyn dyn;
      if (gelf_getdyn(data, (int)i, &dyn) && dyn.d_tag == DT_FLAGS_1 && (dyn.d_un.d_val & DF_1_PIE)) return false;
    }
  }
  return true;
}

static void check_loader(struct binary *b, Elf *elf, int fd, const GElf_Ehdr *eh, size_t nph) {
  char interp[INTERP_MAX];
  if (!read_interp(elf, fd, nph, interp)) {
    if (!is_loader(elf, eh, b->path.text)) set_kind(b, BINARY_STATIC, "is statically linked");
    return;
  }
  const char *base = strrchr(interp, '/');
  base = base ? base + 1 : interp;
  if (strncmp(base, "ld-musl", 7) == 0)
    set_kind(b, BINARY_OTHER_LIBC, "is linked with musl, not glibc");
  else if (strncmp(base, "ld-linux", 8) != 0)
    set_kind(b, BINARY_OTHER_LIBC, "does not use glibc's dynamic loader");
}

/* A Go program says so in a section; also a stripped one, and one that uses cgo. */
static bool check_go(Elf *elf, Elf_Scn **rodata) {
  size_t names;
  bool go = false;
  *rodata = NULL;
  if (elf_getshdrstrndx(elf, &names) != 0) return false;
  Elf_Scn *scn = NULL;
  while ((scn = elf_nextscn(elf, scn))) {
    GElf_Shdr sh;
    const char *name = gelf_getshdr(scn, &sh) ? elf_strptr(elf, names, sh.sh_name) : NULL;
    if (!name) continue;
    if (strcmp(name, ".go.buildinfo") == 0 || strcmp(name, ".note.go.buildid") == 0) go = true;
    if (strcmp(name, ".rodata") == 0) *rodata = scn;
  }
  return go;
}

/* Which variables a static program asks for: their names stand in it, in .rodata or, without sections, anywhere. */
static void check_knobs(struct binary *b, Elf_Scn *rodata, int fd) {
  struct stat st;
  GElf_Shdr sh;
  size_t at = 0, len;
  if (fstat(fd, &st) < 0 || st.st_size <= 0) return;
  len = (size_t)st.st_size;
  void *map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) return;
  if (rodata && gelf_getshdr(rodata, &sh) && sh.sh_type != SHT_NOBITS && sh.sh_offset < len && sh.sh_size <= len - sh.sh_offset) {
    at = sh.sh_offset;
    len = at + sh.sh_size;
  }
  size_t scan = UTIL_MIN(len - at, SCAN_MAX);
  for (int k = KNOB_GOMAXPROCS + 1; k < KNOB_COUNT; k++)
    if (memmem((const char *)map + at, scan, binary_knob_name[k], strlen(binary_knob_name[k]))) b->knobs |= 1u << k;
  munmap(map, (size_t)st.st_size);
}

static void elf_endp(Elf **elf) {
  if (*elf) elf_end(*elf);
}

static void inspect_elf(struct binary *b, int fd) {
  elf_version(EV_CURRENT);
  _cleanup_(elf_endp) Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
  GElf_Ehdr eh;
  size_t nph;
  if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &eh) || elf_getphdrnum(elf, &nph) != 0) {
    set_kind(b, BINARY_UNKNOWN, "has a damaged ELF header");
    return;
  }
  Elf_Scn *rodata;
  b->go = check_go(elf, &rodata);
  if (b->go) b->knobs |= 1u << KNOB_GOMAXPROCS;
  if (check_machine(b, &eh)) check_loader(b, elf, fd, &eh, nph);
  if (b->kind != BINARY_PRELOADABLE && !b->go) check_knobs(b, rodata, fd);
}

/* Would the kernel start it with AT_SECURE set?  The same conditions as in its exec. */
static void check_secure(struct binary *b, int fd) {
  struct stat st;
  struct statvfs vfs;
  if (getuid() != geteuid() || getgid() != getegid()) {
    set_kind(b, BINARY_SECURE, "would run with other real than effective ids");
    return;
  }
  if (fstat(fd, &st) < 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return;
  if (fstatvfs(fd, &vfs) == 0 && (vfs.f_flag & ST_NOSUID)) return;
  if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
    set_kind(b, BINARY_SECURE, "is setuid");
  else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
    set_kind(b, BINARY_SECURE, "is setgid");
  else if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
    set_kind(b, BINARY_SECURE, "has file capabilities");
}

/* ---- scripts ---- */

/* The interpreter of "#! /bin/sh -e": true and its path. */
static bool shebang(char *head, ssize_t n, struct binary_path *interp) {
  if (n < 3 || head[0] != '#' || head[1] != '!') return false;
  head[n] = 0;
  head[strcspn(head, "\n")] = 0;
  char *s = head + 2;
  s += strspn(s, " \t");
  size_t len = strcspn(s, " \t");
  if (len == 0) return false;
  snprintf(interp->text, sizeof(interp->text), "%.*s", (int)len, s);
  /* "#!/usr/bin/env python3": env itself is preloadable, but what it becomes is what the user means. */
  const char *base = strrchr(interp->text, '/');
  char *arg = s + len + strspn(s + len, " \t");
  if (base && strcmp(base, "/env") == 0 && isalnum((unsigned char)*arg)) {
    arg[strcspn(arg, " \t")] = 0;
    struct binary_path real;
    if (!strchr(arg, '=') && binary_find(arg, &real) == 0) *interp = real;
  }
  return true;
}

int binary_inspect(struct binary *b, const char *path) {
  *b = (struct binary){0};
  if (strlen(path) >= sizeof(b->path.text)) return -ENAMETOOLONG;
  strcpy(b->path.text, path);
  for (;; b->scripts++) {
    char head[SHEBANG_MAX + 1];
    struct binary_path interp;
    int r = runnable(b->path.text);
    if (r < 0) return r;
    _cleanup_close_ int fd = open(b->path.text, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, SHEBANG_MAX, 0);
    if (n < 0) {
      set_kind(b, BINARY_UNKNOWN, "may be run but not read");
      return 0;
    }
    if (n >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
      inspect_elf(b, fd);
      check_secure(b, fd);
      return 0;
    }
    if (shebang(head, n, &interp)) {
      if (b->scripts >= SCRIPTS_MAX) return -ELOOP;
      b->path = interp;
      continue;
    }
    /* execvp gives a text without #! to the shell; anything else may be a case for binfmt_misc. */
    if (n > 0 && memchr(head, 0, (size_t)n)) {
      set_kind(b, BINARY_UNKNOWN, "is neither ELF nor a script");
      return 0;
    }
    if (b->scripts >= SCRIPTS_MAX) return -ELOOP;
    if (b->scripts == 0) b->plain_text = true;
    strcpy(b->path.text, "/bin/sh");
  }
}

int binary_exec(const struct binary *b, const char *path, char **argv) {
  extern char **environ;
  execve(path, argv, environ);
  if (errno != ENOEXEC || !b->plain_text) return -errno;
  size_t n = 0;
  while (argv[n]) n++;
  _cleanup_free_ char **sh = calloc(n + 2, sizeof(*sh));
  if (!sh) return -ENOMEM;
  sh[0] = (char *)(uintptr_t) "/bin/sh";
  sh[1] = (char *)(uintptr_t)path;
  for (size_t i = 1; i < n; i++) sh[i + 1] = argv[i];
  execve(sh[0], sh, environ);
  return -errno;
}
