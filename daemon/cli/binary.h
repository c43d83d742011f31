/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_BINARY_H
#define RATION_CLI_BINARY_H
/*
 * What kind of program a command is: can libration.so be preloaded into it, and
 * if not, why; is it a Go program; which thread-count variables does it know.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum binary_kind {
  BINARY_PRELOADABLE = 0, /* dynamically linked with glibc, of our architecture */
  BINARY_STATIC,          /* no dynamic loader, so no LD_PRELOAD */
  BINARY_OTHER_ARCH,      /* another machine or word size */
  BINARY_OTHER_LIBC,      /* a dynamic loader that isn't glibc's: musl, Android */
  BINARY_SECURE,          /* setuid, setgid or file capabilities that count here: the loader ignores LD_PRELOAD */
  BINARY_UNKNOWN,         /* no ELF: binfmt_misc, or not readable */
};

struct binary_path {
  char text[PATH_MAX];
};

/* Variables by which a runtime lets itself be told how many threads to use. */
enum binary_knob { KNOB_GOMAXPROCS, KNOB_OMP, KNOB_OPENBLAS, KNOB_RAYON, KNOB_TOKIO, KNOB_DOTNET, KNOB_COUNT };
extern const char *const binary_knob_name[KNOB_COUNT];

struct binary {
  enum binary_kind kind;
  bool go;
  uint32_t knobs;          /* bit (1 << enum binary_knob) */
  unsigned scripts;        /* #! lines that were followed */
  bool plain_text;         /* the command itself is a text without #!: it is the shell's */
  char why[128];           /* of the kind: "is statically linked" */
  struct binary_path path; /* what really runs: the interpreter of a script */
};

/*
 * Looks for a command as execvp does.  0 and its path; -ENOENT: there is none; -EACCES: there is one
 * that may not be run; -EISDIR, -ENOTDIR, -ELOOP, -ENAMETOOLONG.  path->text is set where a file was found.
 */
int binary_find(const char *cmd, struct binary_path *path);

/* Examines an executable file, following #! lines.  0, or -errno where a script's interpreter cannot be run (b->path tells which). */
int binary_inspect(struct binary *b, const char *path);

/*
 * Becomes the program at `path`, as execvp would once it has found it; but only a text is given to the shell, never
 * a binary that the kernel refuses.  Returns -errno.
 */
int binary_exec(const struct binary *b, const char *path, char **argv);

#endif
