/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_DECIMAL_H
#define RATION_CORE_DECIMAL_H
/* Numbers as text, and the paths in /proc that have them; also in handlers, and in threads without a TCB. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Writes v, at most 20 digits and no 0 behind them; the end. */
static inline char *decimal(char *at, uint64_t v) {
  char digits[20];
  int n = 0;
  do digits[n++] = (char)('0' + v % 10);
  while (v /= 10);
  while (n) *at++ = digits[--n];
  return at;
}

#define TASK_DIR "/proc/self/task/"
/* Room for the path of file, with its 0. */
#define TASK_PATH_BYTES(file_len) (sizeof TASK_DIR + 10 + (file_len))

/* What comes after the name of the directory itself, /proc/self/task or /proc/PID/task; null: another path. */
static inline const char *task_dir_rest(const char *path, uint32_t pid) {
  char own[sizeof TASK_DIR + 10] = "/proc/";
  size_t n = sizeof TASK_DIR - 2;
  if (strncmp(path, TASK_DIR, n) == 0) return path + n;
  memcpy(decimal(own + strlen(own), pid), "/task", sizeof "/task");
  n = strlen(own);
  return strncmp(path, own, n) == 0 ? path + n : NULL;
}

/* /proc/self/task/TID and file, which begins with a slash. */
static inline void task_path(char *path, uint32_t tid, const char *file) {
  memcpy(path, TASK_DIR, sizeof TASK_DIR - 1);
  memcpy(decimal(path + sizeof TASK_DIR - 1, tid), file, strlen(file) + 1);
}

#endif
