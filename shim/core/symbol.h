/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SYMBOL_H
#define RATION_CORE_SYMBOL_H
/*
 * From an address in code to the function that it lies in, and to the file's call frame information.  Works in signal handlers and
 * in service threads: no libc function that locks, allocates or uses TLS (so no dladdr).
 */
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An ELF file that is mapped executable, read from its path.  See symbol.c. */
struct sym_file {
  uint64_t inode;
  uint32_t major, minor;
  const char *name; /* without directories */
  const char *path;
  bool tried;
  const uint8_t *data; /* the whole file; null: can't be read */
  size_t size;
  const Elf64_Phdr *ph;
  uint32_t nph;
  const Elf64_Sym *syms;
  uint64_t nsyms;
  const char *strings;
  uint64_t nstrings;
  uint64_t eh_hdr; /* vaddr of .eh_frame_hdr; 0: none */
};

struct symbols;
/* Reads /proc/self/maps.  Null: no memory.  What is loaded later is not known. */
struct symbols *symbols_open(void);
void symbols_close(struct symbols *s);

/* The file whose code pc lies in, and the address there as the file has it.  Null: in no executable mapping, or in one without a file. */
const struct sym_file *symbols_file(struct symbols *s, uintptr_t pc, uint64_t *vaddr);
bool symbols_executable(struct symbols *s, uintptr_t pc);
/* n bytes of a segment of the file; null: it has none there. */
const uint8_t *symbols_bytes(const struct sym_file *f, uint64_t vaddr, uint64_t n);
/* How many bytes of its segment there are from vaddr on. */
uint64_t symbols_room(const struct sym_file *f, uint64_t vaddr);

struct sym_name {
  const char *function; /* null: not known */
  uint64_t offset;      /* in the function, or in the file's address space */
  const char *file;     /* null: none */
  bool exported;        /* a global symbol: not static, not hidden */
};
/* ret: pc is where a call returns to. */
struct sym_name symbols_name(struct symbols *s, uintptr_t pc, bool ret);

#endif
