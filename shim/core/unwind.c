/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An unwinder for dumps, after the DWARF 5 standard (6.4) and the .eh_frame chapter of the LSB, in the part of both that gcc and clang emit.
 *
 *   pc --.eh_frame_hdr, binary search--> FDE, its CIE --run until pc--> row --caller's registers from the stack
 *
 * A row says how to get the CFA and each register that was saved; it depends on pc only, so rows are kept in a cache by pc.  Expressions are
 * evaluated as far as PLT entries and signal frames need it (glibc's __restore_rt, by which a preempted G can be seen behind the handler
 * that it sleeps in).  Where there is no row, or a register that it needs is not known, the frame pointer is tried once; if that leads nowhere
 * the stack ends there.
 *
 * Everything is read from the files (symbol.c) and from the stack's own bounds: nonsense ends the stack, and nothing else.
 * No libc but memcpy; no locks, no heap, no TLS.
 */
#include "core/unwind.h"
#include <string.h>
#include <ucontext.h>
#include "core/procmaps.h"
#include "core/switch.h"

enum how { SAME, UNDEFINED, AT_CFA, IS_CFA, IN_REG, AT_EXPR, IS_EXPR };
struct rule {
  uint8_t how;
  uint32_t reg;
  int64_t offset;
  const uint8_t *expr; /* with its length in offset */
};

struct row {
  struct rule cfa; /* IN_REG: reg + offset; IS_EXPR */
  struct rule reg[UNWIND_REGS];
  uint8_t ra; /* register of the return address */
  bool signal;
};

#define ROWS 512u /* power of two */
#define REMEMBERED 4u

struct cached_row {
  uintptr_t pc;
  bool found;
  struct row row;
};

struct unwind {
  struct symbols *symbols;
  struct cached_row rows[ROWS];
  struct row initial, remembered[REMEMBERED];
};

struct unwind *unwind_open(struct symbols *s) {
  struct unwind *u = s ? procmaps_pages(sizeof *u) : NULL;
  if (u) u->symbols = s;
  return u;
}

void unwind_close(struct unwind *u) { procmaps_unmap(u, sizeof *u); }

/* --- registers --- */

static void set(struct unwind_regs *regs, uint32_t r, uint64_t v) {
  regs->r[r] = v;
  regs->known |= (uint64_t)1 << r;
}
static bool known(const struct unwind_regs *regs, uint64_t r) { return r < UNWIND_REGS && (regs->known >> r & 1); }

void unwind_from_pc(struct unwind_regs *regs, uintptr_t pc, uintptr_t sp) {
  memset(regs, 0, sizeof *regs);
  regs->pc = pc;
  set(regs, UNWIND_SP, sp);
}

void unwind_from_switch(struct unwind_regs *regs, const void *sp) {
  const uint64_t *f = sp;
#if defined(__x86_64__)
  unwind_from_pc(regs, switch_pc(sp), (uintptr_t)(f + 8));
  for (uint32_t i = 0; i < 4; i++) set(regs, 15 - i, f[1 + i]); /* r15 .. r12 */
  set(regs, 3, f[5]);                                           /* rbx */
  set(regs, UNWIND_FP, f[6]);
#else
  unwind_from_pc(regs, switch_pc(sp), (uintptr_t)(f + 22));
  for (uint32_t i = 0; i < 12; i++) set(regs, 19 + i, f[i]);
#endif
}

void unwind_from_context(struct unwind_regs *regs, const void *uctx) {
  const ucontext_t *uc = uctx;
#if defined(__x86_64__)
  static const uint8_t greg[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  unwind_from_pc(regs, (uintptr_t)uc->uc_mcontext.gregs[REG_RIP], (uintptr_t)uc->uc_mcontext.gregs[REG_RSP]);
  for (uint32_t i = 0; i < 16; i++) set(regs, i, (uint64_t)uc->uc_mcontext.gregs[greg[i]]);
#else
  unwind_from_pc(regs, uc->uc_mcontext.pc, uc->uc_mcontext.sp);
  for (uint32_t i = 0; i < 31; i++) set(regs, i, uc->uc_mcontext.regs[i]);
#endif
}

/* --- reading --- */

/* A stretch of a file; vaddr is that of `at`. */
struct cursor {
  const uint8_t *at, *end;
  uint64_t vaddr;
  bool bad;
};

static uint64_t take(struct cursor *c, unsigned n) {
  uint64_t v = 0;
  if (c->bad || (size_t)(c->end - c->at) < n) {
    c->bad = true;
    return 0;
  }
  memcpy(&v, c->at, n); /* little endian, as both machines are */
  c->at += n;
  c->vaddr += n;
  return v;
}

static uint64_t take_uleb(struct cursor *c) {
  uint64_t v = 0;
  for (unsigned shift = 0;; shift += 7) {
    uint8_t b = (uint8_t)take(c, 1);
    if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) return v;
  }
}

static int64_t take_sleb(struct cursor *c) {
  uint64_t v = 0;
  for (unsigned shift = 0;;) {
    uint8_t b = (uint8_t)take(c, 1);
    if (shift < 64) v |= (uint64_t)(b & 0x7f) << shift;
    shift += 7;
    if (b & 0x80) continue;
    if ((b & 0x40) && shift < 64) v |= ~(uint64_t)0 << shift;
    return (int64_t)v;
  }
}

static void skip(struct cursor *c, uint64_t n) {
  if (c->bad || n > (uint64_t)(c->end - c->at)) {
    c->bad = true;
    return;
  }
  c->at += n;
  c->vaddr += n;
}

enum { PE_OMIT = 0xff, PE_PCREL = 0x10, PE_DATAREL = 0x30, PE_INDIRECT = 0x80 };

static uint64_t take_format(struct cursor *c, uint8_t enc) {
  switch (enc & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
      return take(c, 8);
    case 0x01:
      return take_uleb(c);
    case 0x02:
      return take(c, 2);
    case 0x03:
      return take(c, 4);
    case 0x09:
      return (uint64_t)take_sleb(c);
    case 0x0a:
      return (uint64_t)(int64_t)(int16_t)take(c, 2);
    case 0x0b:
      return (uint64_t)(int64_t)(int32_t)take(c, 4);
    default:
      c->bad = true;
      return 0;
  }
}

/* data: what DATAREL is relative to. */
static uint64_t take_encoded(struct cursor *c, uint8_t enc, uint64_t data) {
  uint64_t here = c->vaddr, v = take_format(c, enc);
  switch (enc & 0x70) {
    case 0:
      return v;
    case PE_PCREL:
      return v + here;
    case PE_DATAREL:
      return v + data;
    default:
      c->bad = true;
      return 0;
  }
}

static struct cursor cursor_at(const struct sym_file *f, uint64_t vaddr) {
  uint64_t room = symbols_room(f, vaddr);
  const uint8_t *p = symbols_bytes(f, vaddr, room);
  return (struct cursor){.at = p, .end = p ? p + room : NULL, .vaddr = vaddr, .bad = !p};
}

/* --- from pc to its FDE --- */

/* The vaddr of the FDE that may cover v; 0: none. */
static uint64_t find_fde(const struct sym_file *f, uint64_t v) {
  struct cursor c = cursor_at(f, f->eh_hdr);
  uint8_t version = (uint8_t)take(&c, 1), ptr_enc = (uint8_t)take(&c, 1), count_enc = (uint8_t)take(&c, 1), enc = (uint8_t)take(&c, 1);
  take_encoded(&c, ptr_enc, f->eh_hdr);
  uint64_t n = take_encoded(&c, count_enc, f->eh_hdr);
  if (c.bad || version != 1 || enc != (PE_DATAREL | 0x0b) || n == 0 || n > (uint64_t)(c.end - c.at) / 8) return 0;
  uint64_t low = 0, high = n;
  int32_t entry[2];
  while (high - low > 1) {
    uint64_t mid = (low + high) / 2;
    memcpy(entry, c.at + mid * 8, sizeof entry);
    if (f->eh_hdr + (uint64_t)(int64_t)entry[0] <= v)
      low = mid;
    else
      high = mid;
  }
  memcpy(entry, c.at + low * 8, sizeof entry);
  return f->eh_hdr + (uint64_t)(int64_t)entry[0] <= v ? f->eh_hdr + (uint64_t)(int64_t)entry[1] : 0;
}

struct cie {
  uint64_t code_align;
  int64_t data_align;
  uint8_t fde_enc;
  bool sized; /* augmentation data has a length */
  struct cursor insns;
};

/* c is cut to the entry. */
static bool cut_entry(struct cursor *c) {
  uint64_t n = take(c, 4);
  if (c->bad || n == 0 || n == 0xffffffff || n > (uint64_t)(c->end - c->at)) return false;
  c->end = c->at + n;
  return true;
}

static bool read_augmentation(struct cursor *c, const char *aug, struct cie *cie, struct row *row) {
  cie->sized = aug[0] == 'z';
  if (!cie->sized) return aug[0] == 0;
  uint64_t n = take_uleb(c);
  struct cursor data = *c;
  skip(c, n);
  for (aug++; *aug && !c->bad && !data.bad; aug++) {
    if (*aug == 'R') {
      cie->fde_enc = (uint8_t)take(&data, 1);
    } else if (*aug == 'P') {
      uint8_t enc = (uint8_t)take(&data, 1);
      if (enc != PE_OMIT) take_format(&data, enc);
    } else if (*aug == 'L') {
      take(&data, 1);
    } else if (*aug == 'S') {
      row->signal = true;
    } else if (*aug != 'B') {
      break; /* the length leads past what we don't know */
    }
  }
  return !c->bad && !data.bad;
}

static bool read_cie(const struct sym_file *f, uint64_t vaddr, struct cie *cie, struct row *row) {
  struct cursor c = cursor_at(f, vaddr);
  if (!cut_entry(&c) || take(&c, 4) != 0) return false;
  uint8_t version = (uint8_t)take(&c, 1);
  if (version != 1 && version != 3) return false;
  const char *aug = (const char *)c.at;
  const uint8_t *end = c.bad ? NULL : memchr(c.at, 0, (size_t)(c.end - c.at));
  if (!end) return false;
  skip(&c, (uint64_t)(end - c.at) + 1);
  cie->code_align = take_uleb(&c);
  cie->data_align = take_sleb(&c);
  row->ra = (uint8_t)(version == 1 ? take(&c, 1) : take_uleb(&c));
  cie->fde_enc = 0;
  if (!read_augmentation(&c, aug, cie, row) || row->ra >= UNWIND_REGS) return false;
  cie->insns = c;
  return true;
}

/* --- running it --- */

struct machine {
  struct row *row;
  const struct row *initial; /* null: this is the CIE's part */
  struct row *remembered;
  unsigned nremembered;
  const struct cie *cie;
  uint64_t loc, until;
};

static void set_rule(struct machine *m, uint64_t reg, struct rule r) {
  if (reg < UNWIND_REGS) m->row->reg[reg] = r; /* vector registers are nobody's business here */
}

static struct rule expr_rule(struct cursor *c, uint8_t how) {
  uint64_t n = take_uleb(c);
  struct rule r = {.how = how, .expr = c->at, .offset = (int64_t)n};
  skip(c, n);
  return r;
}

static void restore(struct machine *m, uint64_t reg) {
  set_rule(m, reg, m->initial && reg < UNWIND_REGS ? m->initial->reg[reg] : (struct rule){.how = SAME});
}

/* DW_CFA_* that define the CFA.  False: it is none of them. */
static bool run_cfa(struct machine *m, struct cursor *c, uint8_t op) {
  struct rule *cfa = &m->row->cfa;
  switch (op) {
    case 0x0c: /* def_cfa */
    case 0x12: /* def_cfa_sf */
      *cfa = (struct rule){.how = IN_REG, .reg = (uint32_t)take_uleb(c)};
      cfa->offset = op == 0x0c ? (int64_t)take_uleb(c) : take_sleb(c) * m->cie->data_align;
      return true;
    case 0x0d: /* def_cfa_register */
      cfa->how = IN_REG;
      cfa->reg = (uint32_t)take_uleb(c);
      return true;
    case 0x0e: /* def_cfa_offset */
      cfa->offset = (int64_t)take_uleb(c);
      return true;
    case 0x13: /* def_cfa_offset_sf */
      cfa->offset = take_sleb(c) * m->cie->data_align;
      return true;
    case 0x0f: /* def_cfa_expression */
      *cfa = expr_rule(c, IS_EXPR);
      return true;
    default:
      return false;
  }
}

/* Those that say where a register is. */
static bool run_reg(struct machine *m, struct cursor *c, uint8_t op) {
  int64_t align = m->cie->data_align;
  uint64_t reg = op >= 0x05 && op != 0x0a && op != 0x0b ? take_uleb(c) : 0;
  switch (op) {
    case 0x05: /* offset_extended */
      set_rule(m, reg, (struct rule){.how = AT_CFA, .offset = (int64_t)take_uleb(c) * align});
      return true;
    case 0x11: /* offset_extended_sf */
      set_rule(m, reg, (struct rule){.how = AT_CFA, .offset = take_sleb(c) * align});
      return true;
    case 0x14: /* val_offset */
      set_rule(m, reg, (struct rule){.how = IS_CFA, .offset = (int64_t)take_uleb(c) * align});
      return true;
    case 0x15: /* val_offset_sf */
      set_rule(m, reg, (struct rule){.how = IS_CFA, .offset = take_sleb(c) * align});
      return true;
    case 0x06: /* restore_extended */
      restore(m, reg);
      return true;
    case 0x07: /* undefined */
      set_rule(m, reg, (struct rule){.how = UNDEFINED});
      return true;
    case 0x08: /* same_value */
      set_rule(m, reg, (struct rule){.how = SAME});
      return true;
    case 0x09: /* register */
      set_rule(m, reg, (struct rule){.how = IN_REG, .reg = (uint32_t)take_uleb(c)});
      return true;
    case 0x10: /* expression */
      set_rule(m, reg, expr_rule(c, AT_EXPR));
      return true;
    case 0x16: /* val_expression */
      set_rule(m, reg, expr_rule(c, IS_EXPR));
      return true;
    default:
      return false;
  }
}

static bool run_other(struct machine *m, struct cursor *c, uint8_t op) {
  switch (op) {
    case 0x00: /* nop */
    case 0x2d: /* aarch64: the return address is signed from here on */
      return true;
    case 0x02: /* advance_loc1, 2, 4 */
    case 0x03:
    case 0x04:
      m->loc += take(c, op == 0x02 ? 1 : op == 0x03 ? 2 : 4) * m->cie->code_align;
      return true;
    case 0x0a: /* remember_state */
      if (m->nremembered == REMEMBERED) return false;
      m->remembered[m->nremembered++] = *m->row;
      return true;
    case 0x0b: /* restore_state */
      if (m->nremembered == 0) return false;
      *m->row = m->remembered[--m->nremembered];
      return true;
    case 0x2e: /* GNU_args_size */
      take_uleb(c);
      return true;
    default:
      return false;
  }
}

static bool run(struct machine *m, struct cursor c) {
  while (c.at < c.end && !c.bad) {
    uint8_t op = (uint8_t)take(&c, 1), low = op & 0x3f;
    if (op >> 6 == 1)
      m->loc += low * m->cie->code_align;
    else if (op >> 6 == 2)
      set_rule(m, low, (struct rule){.how = AT_CFA, .offset = (int64_t)take_uleb(&c) * m->cie->data_align});
    else if (op >> 6 == 3)
      restore(m, low);
    else if (op >= 0x02 && op <= 0x04)
      run_other(m, &c, op);
    else if (!run_cfa(m, &c, op) && !(op == 0x0a || op == 0x0b || op == 0 || op >= 0x2d ? run_other(m, &c, op) : run_reg(m, &c, op)))
      return false;
    if (m->loc > m->until) return true;
  }
  return !c.bad;
}

static bool make_row(struct unwind *u, const struct sym_file *f, uint64_t v, struct row *row) {
  struct cie cie;
  uint64_t at = f->eh_hdr ? find_fde(f, v) : 0;
  struct cursor c = cursor_at(f, at);
  if (!at || !cut_entry(&c)) return false;
  uint64_t id_at = c.vaddr, back = take(&c, 4);
  memset(row, 0, sizeof *row);
  if (back == 0 || back > id_at || !read_cie(f, id_at - back, &cie, row)) return false;
  uint64_t from = take_encoded(&c, cie.fde_enc, 0), n = take_format(&c, cie.fde_enc & 0x0f);
  if (cie.sized) skip(&c, take_uleb(&c));
  if (c.bad || v < from || v - from >= n) return false;
  struct machine m = {.row = row, .remembered = u->remembered, .cie = &cie, .until = UINT64_MAX};
  if (!run(&m, cie.insns)) return false;
  u->initial = *row;
  m.initial = &u->initial;
  m.loc = from;
  m.until = v;
  return run(&m, c);
}

static const struct row *row_at(struct unwind *u, uintptr_t pc) {
  struct cached_row *c = &u->rows[(pc * 0x9e3779b97f4a7c15u) >> 50 & (ROWS - 1)];
  if (c->pc != pc) {
    uint64_t v;
    const struct sym_file *f = symbols_file(u->symbols, pc, &v);
    c->found = f && make_row(u, f, v, &c->row);
    c->pc = pc;
  }
  return c->found ? &c->row : NULL;
}

/* --- the caller's registers --- */

struct stack {
  const struct unwind_range *on;
  unsigned n;
};

/* Other functions' frames: to ASan the gaps between their variables are no memory. */
__attribute__((no_sanitize("address", "thread"))) static bool load(const struct stack *s, uint64_t at, uint64_t *v) {
  if (at % 8) return false;
  for (unsigned i = 0; i < s->n; i++) {
    if (at < s->on[i].low || at > s->on[i].high || s->on[i].high - at < 8) continue;
    *v = *(const volatile uint64_t *)at; /* NOLINT(clang-analyzer-core.NullDereference): it lies in one of the ranges */
    return true;
  }
  return false;
}

#define DEPTH 8u
struct calc {
  uint64_t v[DEPTH];
  unsigned n;
  bool bad;
};
static void push(struct calc *k, uint64_t v) {
  if (k->n == DEPTH)
    k->bad = true;
  else
    k->v[k->n++] = v;
}
static uint64_t pop(struct calc *k) {
  if (k->n) return k->v[--k->n];
  k->bad = true;
  return 0;
}

static void calc_binary(struct calc *k, uint8_t op) {
  uint64_t b = pop(k), a = pop(k);
  if (op == 0x1a)
    push(k, a & b);
  else if (op == 0x1c)
    push(k, a - b);
  else if (op == 0x22)
    push(k, a + b);
  else if (op == 0x24)
    push(k, b < 64 ? a << b : 0);
  else /* 0x2a: ge */
    push(k, (int64_t)a >= (int64_t)b);
}

/* The operators that PLTs and signal frames use.  cfa: where to begin, or null. */
static bool evaluate(const struct rule *rule, const struct unwind_regs *r, const struct stack *s, const uint64_t *cfa, uint64_t *v) {
  struct cursor c = {.at = rule->expr, .end = rule->expr + rule->offset};
  struct calc k = {.n = 0};
  if (cfa) push(&k, *cfa);
  while (c.at < c.end && !c.bad && !k.bad) {
    uint8_t op = (uint8_t)take(&c, 1);
    if (op >= 0x70 && op <= 0x8f) { /* breg0 .. breg31 */
      int64_t offset = take_sleb(&c);
      if (!known(r, op - 0x70u) && !(op - 0x70u == 16 && UNWIND_REGS == 17)) return false;
      push(&k, (op - 0x70u == 16 && UNWIND_REGS == 17 ? r->pc : r->r[op - 0x70u]) + (uint64_t)offset);
    } else if (op >= 0x30 && op <= 0x4f) { /* lit0 .. lit31 */
      push(&k, op - 0x30u);
    } else if (op == 0x06) { /* deref */
      uint64_t x;
      if (!load(s, pop(&k), &x)) return false;
      push(&k, x);
    } else if (op == 0x08) { /* const1u */
      push(&k, take(&c, 1));
    } else if (op == 0x23) { /* plus_uconst */
      push(&k, pop(&k) + take_uleb(&c));
    } else if (op == 0x1a || op == 0x1c || op == 0x22 || op == 0x24 || op == 0x2a) {
      calc_binary(&k, op);
    } else {
      return false;
    }
  }
  *v = pop(&k);
  return !c.bad && !k.bad;
}

/* What a register was in the caller.  False: it can't be told. */
static bool caller_value(const struct rule *rule, uint32_t reg, const struct unwind_regs *r, const struct stack *s, uint64_t cfa,
                         uint64_t *v) {
  switch (rule->how) {
    case SAME:
      *v = r->r[reg];
      return known(r, reg);
    case AT_CFA:
      return load(s, cfa + (uint64_t)rule->offset, v);
    case IS_CFA:
      *v = cfa + (uint64_t)rule->offset;
      return true;
    case IN_REG:
      if (!known(r, rule->reg)) return false;
      *v = r->r[rule->reg];
      return true;
    case AT_EXPR:
      return evaluate(rule, r, s, &cfa, v) && load(s, *v, v);
    case IS_EXPR:
      return evaluate(rule, r, s, &cfa, v);
    default:
      return false;
  }
}

static uintptr_t plain_pc(uint64_t v) {
#if defined(__aarch64__)
  v &= ((uint64_t)1 << 48) - 1; /* without its signature */
#endif
  return (uintptr_t)v;
}

static bool step_by_row(const struct row *row, struct unwind_regs *r, const struct stack *s) {
  uint64_t cfa, pc;
  if (row->cfa.how == IN_REG && known(r, row->cfa.reg))
    cfa = r->r[row->cfa.reg] + (uint64_t)row->cfa.offset;
  else if (row->cfa.how != IS_EXPR || !evaluate(&row->cfa, r, s, NULL, &cfa))
    return false;
  struct unwind_regs up = {.known = 0};
  for (uint32_t i = 0; i < UNWIND_REGS; i++) {
    uint64_t v;
    if (caller_value(&row->reg[i], i, r, s, cfa, &v)) set(&up, i, v);
  }
  if (!caller_value(&row->reg[row->ra], row->ra, r, s, cfa, &pc)) return false;
  up.pc = plain_pc(pc);
  if (row->reg[UNWIND_SP].how == SAME) set(&up, UNWIND_SP, cfa);
  *r = up;
  return true;
}

static bool step_by_fp(struct unwind_regs *r, const struct stack *s) {
  uint64_t fp = r->r[UNWIND_FP], next, pc;
  if (!known(r, UNWIND_FP) || fp % 8 || fp < r->r[UNWIND_SP] || !load(s, fp, &next) || !load(s, fp + 8, &pc)) return false;
  unwind_from_pc(r, plain_pc(pc), fp + 16);
  set(r, UNWIND_FP, next);
  return true;
}

/* aarch64 returns from handlers by code of the kernel's, which no file describes.  True: it was that, and r is what was interrupted. */
static bool step_by_signal(struct unwind *u, struct unwind_regs *r, const struct stack *s) {
#if defined(__aarch64__)
  static const uint32_t code[2] = {0xd2801168, 0xd4000001}; /* mov x8, #__NR_rt_sigreturn; svc #0 */
  uint64_t at = r->r[UNWIND_SP] + 128, last;                /* after the siginfo: a ucontext */
  if (r->pc % 4 || !symbols_executable(u->symbols, r->pc) || memcmp((const void *)r->pc, code, sizeof code) != 0) return false;
  if (!known(r, UNWIND_SP) || !load(s, at, &last) || !load(s, at + sizeof(ucontext_t) - 8, &last)) return false;
  unwind_from_context(r, (const void *)at);
  return true;
#else
  (void)u, (void)r, (void)s;
  return false;
#endif
}

uint32_t unwind_stack(struct unwind *u, struct unwind_regs *regs, bool ret, const struct unwind_range *on, unsigned non, uintptr_t *frames,
                      uint32_t most) {
  struct stack s = {on, non};
  uint32_t n = 0;
  while (n < most && regs->pc > 4096 && symbols_executable(u->symbols, regs->pc)) {
    frames[n++] = regs->pc << 1 | ret;
    uint64_t sp = regs->r[UNWIND_SP];
    const struct row *row = row_at(u, ret ? regs->pc - 1 : regs->pc);
    bool ends = row && row->reg[row->ra].how == UNDEFINED;
    bool by_signal = !row && step_by_signal(u, regs, &s);
    if (ends || !(by_signal || (row && step_by_row(row, regs, &s)) || step_by_fp(regs, &s))) break;
    ret = !by_signal && !(row && row->signal);
    /* Stacks grow down; but a leaf of aarch64 has no frame, and a signal may have its own stack. */
    if (ret && regs->r[UNWIND_SP] <= sp && !(n == 1 && regs->r[UNWIND_SP] == sp)) break;
  }
  return n;
}
