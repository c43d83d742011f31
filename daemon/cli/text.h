/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_TEXT_H
#define RATION_CLI_TEXT_H
/*
 * Output for people and for programs: tables as wide as their content, human
 * units, JSON.  Strings from elsewhere are made harmless on the way: no control
 * characters in a table, valid UTF-8 in JSON.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "daemon/util.h"

struct table {
  const char *const *heads; /* null-terminated; '>' in front: to the right */
  size_t ncols, ncells, cap;
  char **cells;
};

void table_init(struct table *t, const char *const *heads);
void table_free(struct table *t);
/* The next cell, row by row.  Memory that runs out ends the program: there is nothing to undo. */
void table_cell(struct table *t, const char *fmt, ...) _printf_(2, 3);
void table_print(const struct table *t, FILE *to);
/* Without its heads. */
void table_print_body(const struct table *t, FILE *to);

#define TEXT_UNIT 32
/* 850 ns, 12.3 us, 4.56 ms, 1.20 s, 3m04s, 2h05m, 3d04h.  Returns buf, which holds TEXT_UNIT bytes. */
const char *text_duration(char *buf, uint64_t ns);
/* 9999, 12.3k, 4.5M, 1.2G */
const char *text_count(char *buf, uint64_t n);
/* Name of a user, or the number. */
const char *text_user(char *buf, uint32_t uid);
/* "standalone", "polling", "bpf", "?"; POOL_RUNG_* */
const char *text_rung(uint32_t rung);

/* A string value, whatever the bytes. */
json_t *json_text(const char *s);
/* An unsigned value; more than JSON's integers hold becomes the largest one. */
json_t *json_uint(uint64_t v);
/* CPUs in millionths, as a number: 1.5 */
json_t *json_micro(uint64_t micro);
/* Prints and frees it.  Exit status. */
int json_print(json_t *j);

#endif
