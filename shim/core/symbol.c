/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbols by the files themselves: .symtab, which has static functions too, or else .dynsym.
 *
 *   pc --/proc/self/maps--> file and offset --program headers--> vaddr --symbols--> function + offset
 *
 * A file is mapped when it is first asked for, if device and inode are still those of the mapping; for the program, whose path may be
 * of another mount namespace or gone, /proc/self/exe is tried as well.  Nothing in it is believed: every offset is checked against the file's size.  Lookups go
 * through all symbols, for they are not sorted; a cache by pc makes up for that, since many Gs stand at few places.
 *
 * All of it lies in one mapping that symbols_close gives back.
 */
#include "core/symbol.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "core/procmaps.h"
#include "core/sys.h"

#define MAPS_MOST 2048u
#define FILES_MOST 512u
#define PATH_BYTES (256u << 10)
#define FILE_MOST ((uint64_t)4 << 30)
#define CACHE 4096u /* power of two */

struct code {
  uintptr_t from, to;
  uint64_t offset;
  uint32_t file; /* FILES_MOST: none */
};

struct cached {
  uintptr_t pc;
  struct sym_name name;
};

struct symbols {
  uint32_t ncode, nfiles, npath;
  struct code code[MAPS_MOST];
  struct sym_file files[FILES_MOST];
  char paths[PATH_BYTES];
  struct cached cache[CACHE];
};

/* --- what is mapped --- */

static const char *keep_path(struct symbols *s, const char *path) {
  size_t n = strlen(path) + 1;
  if (n > PATH_BYTES - s->npath) return "?";
  char *to = s->paths + s->npath;
  memcpy(to, path, n);
  s->npath += (uint32_t)n;
  return to;
}

static uint32_t file_of(struct symbols *s, const struct procmap *m) {
  for (uint32_t i = 0; i < s->nfiles; i++) {
    const struct sym_file *f = &s->files[i];
    if (m->inode ? f->inode == m->inode && f->major == m->major && f->minor == m->minor : strcmp(f->path, m->path) == 0) return i;
  }
  if (s->nfiles == FILES_MOST) return FILES_MOST;
  struct sym_file *f = &s->files[s->nfiles];
  *f = (struct sym_file){.inode = m->inode, .major = m->major, .minor = m->minor, .path = keep_path(s, m->path)};
  const char *slash = strrchr(f->path, '/');
  f->name = slash ? slash + 1 : f->path;
  return s->nfiles++;
}

static bool add_map(const struct procmap *m, void *arg) {
  struct symbols *s = arg;
  if (!m->exec) return true;
  if (s->ncode == MAPS_MOST) return false;
  s->code[s->ncode++] = (struct code){m->from, m->to, m->offset, m->path[0] ? file_of(s, m) : FILES_MOST};
  return true;
}

struct symbols *symbols_open(void) {
  struct symbols *s = procmaps_pages(sizeof *s);
  if (s) procmaps_each(add_map, s);
  return s;
}

void symbols_close(struct symbols *s) {
  if (!s) return;
  for (uint32_t i = 0; i < s->nfiles; i++)
    if (s->files[i].data) raw_syscall2(SYS_munmap, (long)s->files[i].data, (long)s->files[i].size);
  procmaps_unmap(s, sizeof *s);
}

static const struct code *code_at(const struct symbols *s, uintptr_t pc) {
  uint32_t low = 0, high = s->ncode;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if (s->code[mid].to <= pc)
      low = mid + 1;
    else
      high = mid;
  }
  return low < s->ncode && s->code[low].from <= pc ? &s->code[low] : NULL;
}

bool symbols_executable(struct symbols *s, uintptr_t pc) { return code_at(s, pc) != NULL; }

/* --- the file --- */

static bool map_path(struct sym_file *f, const char *path) {
  struct stat st;
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
  if (fd < 0) return false;
  long at = -1;
  bool same = raw_syscall2(SYS_fstat, fd, (long)&st) == 0 && S_ISREG(st.st_mode) && st.st_ino == f->inode;
  /* Not st_dev: overlay and btrfs have another one in maps. */
  if (same && st.st_size >= (off_t)sizeof(Elf64_Ehdr) && (uint64_t)st.st_size <= FILE_MOST)
    at = raw_syscall6(SYS_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  raw_syscall1(SYS_close, fd);
  if (at < 0 && at > -4096) return false;
  f->data = (const uint8_t *)at;
  f->size = (size_t)st.st_size;
  return true;
}

static const void *part(const struct sym_file *f, uint64_t at, uint64_t n, uint64_t each) {
  uint64_t bytes;
  if (__builtin_mul_overflow(n, each, &bytes) || at > f->size || bytes > f->size - at || at % 8) return NULL;
  return f->data + at;
}

static void read_sections(struct sym_file *f, const Elf64_Ehdr *eh) {
  const Elf64_Shdr *sh = eh->e_shentsize == sizeof *sh ? part(f, eh->e_shoff, eh->e_shnum, sizeof *sh) : NULL;
  for (uint32_t i = 0; sh && i < eh->e_shnum; i++) {
    if (sh[i].sh_type != SHT_SYMTAB && sh[i].sh_type != SHT_DYNSYM) continue;
    if ((f->syms && sh[i].sh_type == SHT_DYNSYM) || sh[i].sh_link >= eh->e_shnum) continue;
    const Elf64_Shdr *str = &sh[sh[i].sh_link];
    uint64_t n = sh[i].sh_size / sizeof *f->syms;
    const Elf64_Sym *syms = part(f, sh[i].sh_offset, n, sizeof *syms);
    if (!syms || str->sh_offset > f->size || str->sh_size > f->size - str->sh_offset || str->sh_size == 0) continue;
    const char *strings = (const char *)f->data + str->sh_offset;
    if (strings[str->sh_size - 1]) continue;
    f->syms = syms;
    f->nsyms = n;
    f->strings = strings;
    f->nstrings = str->sh_size;
  }
}

static void open_file(struct sym_file *f) {
  f->tried = true;
  if (!f->inode || (!map_path(f, f->path) && !map_path(f, "/proc/self/exe"))) return;
  const Elf64_Ehdr *eh = (const Elf64_Ehdr *)f->data;
  if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(Elf64_Phdr)) return;
  f->ph = part(f, eh->e_phoff, eh->e_phnum, sizeof(Elf64_Phdr));
  if (!f->ph) return;
  f->nph = eh->e_phnum;
  for (uint32_t i = 0; i < f->nph; i++)
    if (f->ph[i].p_type == PT_GNU_EH_FRAME) f->eh_hdr = f->ph[i].p_vaddr;
  read_sections(f, eh);
}

const struct sym_file *symbols_file(struct symbols *s, uintptr_t pc, uint64_t *vaddr) {
  const struct code *c = code_at(s, pc);
  if (!c || c->file == FILES_MOST) return NULL;
  struct sym_file *f = &s->files[c->file];
  if (!f->tried) open_file(f);
  uint64_t at = pc - c->from + c->offset;
  *vaddr = at;
  for (uint32_t i = 0; i < f->nph; i++) {
    const Elf64_Phdr *p = &f->ph[i];
    if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && at >= p->p_offset && at - p->p_offset < p->p_filesz)
      *vaddr = at - p->p_offset + p->p_vaddr;
  }
  return f;
}

static const Elf64_Phdr *segment(const struct sym_file *f, uint64_t vaddr) {
  for (uint32_t i = 0; i < f->nph; i++) {
    const Elf64_Phdr *p = &f->ph[i];
    if (p->p_type == PT_LOAD && vaddr >= p->p_vaddr && vaddr - p->p_vaddr < p->p_filesz) return p;
  }
  return NULL;
}

uint64_t symbols_room(const struct sym_file *f, uint64_t vaddr) {
  const Elf64_Phdr *p = segment(f, vaddr);
  if (!p || p->p_offset > f->size || p->p_filesz > f->size - p->p_offset) return 0;
  return p->p_filesz - (vaddr - p->p_vaddr);
}

const uint8_t *symbols_bytes(const struct sym_file *f, uint64_t vaddr, uint64_t n) {
  if (symbols_room(f, vaddr) < n || n == 0) return NULL;
  const Elf64_Phdr *p = segment(f, vaddr);
  return f->data + p->p_offset + (vaddr - p->p_vaddr);
}

/* --- names --- */

static bool is_code(const Elf64_Sym *y) {
  unsigned type = ELF64_ST_TYPE(y->st_info);
  return y->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) && y->st_value != 0;
}

/* The function around vaddr; else the last label before it that has no size (assembler code). */
static const Elf64_Sym *find_symbol(const struct sym_file *f, uint64_t vaddr) {
  const Elf64_Sym *label = NULL;
  for (uint64_t i = 0; i < f->nsyms; i++) {
    const Elf64_Sym *y = &f->syms[i];
    if (y->st_value > vaddr || !is_code(y) || y->st_name >= f->nstrings || !f->strings[y->st_name]) continue;
    if (vaddr - y->st_value < y->st_size) return y;
    if (y->st_size == 0 && f->strings[y->st_name] != '$' && (!label || y->st_value > label->st_value)) label = y;
  }
  return label && vaddr - label->st_value < 4096 ? label : NULL;
}

static struct sym_name name_of(struct symbols *s, uintptr_t pc, uintptr_t at) {
  uint64_t vaddr;
  const struct sym_file *f = symbols_file(s, at, &vaddr);
  if (!f) return (struct sym_name){.offset = pc};
  struct sym_name name = {.offset = vaddr + (pc - at), .file = f->name};
  const Elf64_Sym *y = find_symbol(f, vaddr);
  if (!y) return name;
  name.function = f->strings + y->st_name;
  name.offset -= y->st_value;
  name.exported = ELF64_ST_BIND(y->st_info) != STB_LOCAL;
  return name;
}

struct sym_name symbols_name(struct symbols *s, uintptr_t pc, bool ret) {
  uintptr_t at = ret ? pc - 1 : pc;
  struct cached *c = &s->cache[(at * 0x9e3779b97f4a7c15u) >> 52 & (CACHE - 1)];
  uintptr_t key = pc << 1 | ret;
  if (c->pc != key) {
    c->name = name_of(s, pc, at);
    c->pc = key;
  }
  return c->name;
}
