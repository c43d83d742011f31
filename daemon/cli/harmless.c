/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cli/harmless.h"
#include <string.h>

/* Length in bytes of the UTF-8 character at s, of which there are n; 0 if it is none (overlong, surrogate), or it is cut. */
static size_t utf8_len(const unsigned char *s, size_t n, bool *cut) {
  size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
  for (size_t i = 1; i < len; i++) {
    *cut = i == n;
    if (*cut || (s[i] & 0xc0) != 0x80) return 0;
  }
  if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
  if (s[0] == 0xed && s[1] > 0x9f) return 0;
  if (s[0] == 0xf0 && s[1] < 0x90) return 0;
  if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
  return len;
}

/* C0, DEL, C1 */
static bool is_control(const unsigned char *c, size_t len) { return *c < 0x20 || *c == 0x7f || (len == 2 && c[0] == 0xc2 && c[1] < 0xa0); }

size_t harmless_part(char *part, size_t n, enum harmless_keep keep, bool last) {
  unsigned char *s = (unsigned char *)part;
  size_t at = 0;
  while (at < n) {
    bool cut = false;
    size_t len = utf8_len(s + at, n - at, &cut), bad = 0;
    if (cut && !last) break;
    if (len == 0)
      bad = len = 1;
    else if (is_control(s + at, len) && keep != HARMLESS_CONTROLS && !(keep == HARMLESS_LINES && s[at] == '\n'))
      bad = len;
    memset(s + at, '?', bad);
    at += len;
  }
  return at;
}

void harmless(char *s, enum harmless_keep keep) { harmless_part(s, strlen(s), keep, true); }
