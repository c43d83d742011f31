/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_HARMLESS_H
#define RATION_CLI_HARMLESS_H
/*
 * Text from elsewhere (names of programs, files, what a daemon answers), so that it cannot play with a terminal or a JSON parser:
 * '?' for every byte that is a control character, C1 in UTF-8 as well, or no UTF-8.
 */
#include <stdbool.h>
#include <stddef.h>

enum harmless_keep {
  HARMLESS_TEXT,    /* no control character */
  HARMLESS_LINES,   /* but the newline */
  HARMLESS_CONTROLS /* all of them: for who writes them in a way of his own */
};

/* A string, in place. */
void harmless(char *s, enum harmless_keep keep);
/*
 * Part of a stream, in place; may hold NULs.  Returns how many of its n bytes are done: less than n, by at most three, if it ends
 * within a character.  The rest belongs before the next part.  After the last one, nothing is left.
 */
size_t harmless_part(char *part, size_t n, enum harmless_keep keep, bool last);

#endif
