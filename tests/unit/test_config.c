/* SPDX-License-Identifier: Apache-2.0 */
/* rationd.conf: what is read, and what is said about what is wrong. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "daemon/config.h"
#include "daemon/util.h"

static char err[512];
static char path[64];

static int load(struct config *c, const char *text) {
  strcpy(path, "/tmp/rationtest-conf-XXXXXX");
  int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  close(fd);
  config_defaults(c);
  err[0] = 0;
  int r = config_load(c, path, true, err, sizeof(err));
  unlink(path);
  return r;
}

/* A text, the line of the error, and what must be said. */
static void refuses(const char *text, int line, const char *says) {
  struct config c;
  char where[96];
  ck_assert_int_eq(load(&c, text), -EINVAL);
  snprintf(where, sizeof(where), "%s:%d: ", path, line);
  ck_assert_msg(strncmp(err, where, strlen(where)) == 0, "'%s' should begin with '%s'", err, where);
  ck_assert_msg(strstr(err, says) != NULL, "'%s' should say '%s'", err, says);
  config_free(&c);
}

START_TEST(all_keys_are_read) {
  struct config c;
  ck_assert_int_eq(load(&c,
                        "# a comment\n[daemon]\nsocket = /x/y.sock\nlog_level = debug\nlog_file = /var/log/x\nbpf = off\n"
                        "max_clients = 77\nmax_clients_per_uid = 7\n\n[pool]\nmargin = 2.5%\nheadroom = 0.25\nweights = no\n"
                        "tick_ms = 50\nstuck_ms = 200\n[domain /a/b/]\nheadroom = 5%\n[domain /a]\nheadroom = 0.5\n"),
                   0);
  ck_assert_str_eq(c.socket, "/x/y.sock");
  ck_assert_str_eq(c.log_file, "/var/log/x");
  ck_assert_int_eq(c.log_level, LOG_LEVEL_DEBUG);
  ck_assert(!c.bpf && !c.weights);
  ck_assert_uint_eq(c.max_clients, 77);
  ck_assert_uint_eq(c.max_clients_per_uid, 7);
  ck_assert_uint_eq(c.margin_ppm, 25000);
  ck_assert_uint_eq(c.headroom.cpu_micro, 250000);
  ck_assert_uint_eq(c.tick_ms, 50);
  ck_assert_uint_eq(c.stuck_ms, 200);
  ck_assert_uint_eq(config_headroom(&c, "/a/b").ppm, 50000);
  ck_assert_uint_eq(config_headroom(&c, "/a/b/c/d").ppm, 50000);
  ck_assert_uint_eq(config_headroom(&c, "/a/bc").cpu_micro, 500000);
  ck_assert_uint_eq(config_headroom(&c, "/a").cpu_micro, 500000);
  ck_assert_uint_eq(config_headroom(&c, "/ab").cpu_micro, 250000);
  ck_assert_uint_eq(config_headroom(&c, "/").cpu_micro, 250000);
  config_free(&c);
}
END_TEST

START_TEST(errors_name_file_line_and_the_nearest_right_key) {
  refuses("[pool]\nmargn = 2%\n", 2, "did you mean 'margin' in [pool]?");
  refuses("[pool]\n\n# x\nHead_room = 1\n", 4, "did you mean 'headroom'");
  refuses("[daemon]\nmax_client = 5\n", 2, "did you mean 'max_clients'");
  refuses("[pool]\nsocket = /x\n", 2, "did you mean 'socket' in [daemon]?");
  refuses("[pol]\nmargin = 2%\n", 1, "did you mean [pool]?");
  refuses("[domain]\nheadroom = 1\n", 1, "did you mean [domain /PATH]?");
  refuses("[domain x]\nheadroom = 1\n", 1, "not an absolute cgroup path");
  refuses("[domain /x]\nmargin = 1%\n", 2, "did you mean 'margin' in [pool]?");
  refuses("margin = 2%\n", 1, "before any section");
  refuses("[pool]\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1\n", 2, "unknown key");
  refuses("[pool]\nmargin 2%\n", 2, "key = value");
  refuses("[pool\nmargin = 2%\n", 1, "key = value");
  refuses("[pool]\nmargin = 1%\nxx = 1\nyy = 2\n", 3, "'xx'"); /* the first one */
}
END_TEST

START_TEST(sections_without_keys_are_checked_as_well) {
  refuses("[pool]\n[deamon]\n", 2, "did you mean [daemon]?");
  refuses("[pool]\n#[x]\n[domain x/y]\n[daemon]\n", 3, "not an absolute cgroup path");
  refuses("[pool] tick_ms = 50\n", 1, "not a line of the form");
  struct config c;
  ck_assert_int_eq(load(&c, "[pool]\nheadroom = 0.5\n[daemon] ; nothing\n[domain /x]\n"), 0);
  ck_assert_uint_eq(config_headroom(&c, "/x").cpu_micro, 500000); /* it says nothing about /x */
  config_free(&c);
}
END_TEST

#define POD "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f3a2b9c_1d2e_4f50_8a6b_7c8d9e0f1a2b.slice/"
#define CONTAINER "cri-containerd-3f1e2d4c5b6a79881726354433221100ffeeddccbbaa99887766554433221100.scope"

START_TEST(long_lines_and_paths_are_read) {
  static char text[8192], name[300];
  struct config c;
  memset(name, 'x', 250);
  /* A comment of 2000 characters, with what would be a key in it; then values and sections as long as they may be. */
  snprintf(text, sizeof(text),
           "# %01990d\n[daemon]\nlog_file = /%s%*s; a comment\n[domain " POD CONTAINER "]\nheadroom = 0.25\n[domain " POD
           "]\nheadroom = 1\n",
           0, name, 300, "");
  ck_assert_int_eq(load(&c, text), 0);
  ck_assert_uint_eq(strlen(c.log_file), 251);
  ck_assert_uint_eq(config_headroom(&c, POD CONTAINER).cpu_micro, 250000);
  ck_assert_uint_eq(config_headroom(&c, POD "other.scope").cpu_micro, 1000000);
  config_free(&c);
  snprintf(text, sizeof(text), "# %01990d\n[pool]\nmargn = 1%%\n", 0);
  refuses(text, 3, "did you mean 'margin'");
  snprintf(text, sizeof(text), "[daemon]\n[domain /%01024d]\n", 0);
  refuses(text, 2, "a path of more than 1023 characters");
}
END_TEST

START_TEST(comments_and_blanks_do_not_matter) {
  struct config c;
  ck_assert_int_eq(load(&c, "\xef\xbb\xbf[pool]\r\n  tick_ms=50 ; half\r\n\t; x\n\n   # y = z\n[ domain   /x/y ] # why\nheadroom : 0.5"),
                   0);
  ck_assert_uint_eq(c.tick_ms, 50);
  ck_assert_uint_eq(config_headroom(&c, "/x/y").cpu_micro, 500000);
  config_free(&c);
  ck_assert_int_eq(load(&c, "[daemon]\nlog_file = ; none\nlog_file = /a;b\n"), 0);
  ck_assert_str_eq(c.log_file, "/a;b");
  config_free(&c);
}
END_TEST

START_TEST(values_are_checked) {
  static const char *const wrong[] = {
      "[pool]\nmargin = 2\n",
      "[pool]\nmargin = 51%\n",
      "[pool]\nmargin = -1%\n",
      "[pool]\nmargin = %\n",
      "[pool]\nmargin =\n",
      "[pool]\nheadroom = 96%\n",
      "[pool]\nheadroom = 1.5x\n",
      "[pool]\nheadroom = 99999999999999999999\n",
      "[pool]\nheadroom = -0.1\n",
      "[pool]\nweights = maybe\n",
      "[pool]\ntick_ms = 4\n",
      "[pool]\ntick_ms = 20ms\n",
      "[pool]\ntick_ms = 99999999999999999999999\n",
      "[pool]\nstuck_ms = +100\n",
      "[daemon]\nsocket = relative\n",
      "[daemon]\nlog_file = relative\n",
      "[daemon]\nlog_level = loud\n",
      "[daemon]\nmax_clients = 0\n",
      "[daemon]\nmax_clients = 1e3\n",
      "[daemon]\nbpf = 2\n",
  };
  for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) refuses(wrong[i], 2, "expected");
  char text[512] = "[daemon]\nsocket = /";
  memset(text + strlen(text), 'x', 120);
  refuses(text, 2, "expected");
}
END_TEST

START_TEST(a_missing_file_is_an_error_only_when_it_was_named) {
  struct config c;
  config_defaults(&c);
  ck_assert_int_eq(config_load(&c, "/nonexistent/rationd.conf", false, err, sizeof(err)), 1);
  ck_assert_int_eq(config_load(&c, "/nonexistent/rationd.conf", true, err, sizeof(err)), -ENOENT);
  ck_assert_ptr_nonnull(strstr(err, "/nonexistent/rationd.conf"));
  ck_assert_int_lt(config_load(&c, "/", true, err, sizeof(err)), 0); /* a directory */
}
END_TEST

START_TEST(headroom_leaves_something) {
  struct headroom none = {0, 0}, tenth = {100000, 0}, half = {0, 500000}, both = {100000, 100000}, much = {UINT32_MAX, 950000};
  ck_assert_uint_eq(config_after_headroom(none, 1500000), 1500000);
  ck_assert_uint_eq(config_after_headroom(tenth, 1500000), 1400000);
  ck_assert_uint_eq(config_after_headroom(half, 1500000), 750000);
  ck_assert_uint_eq(config_after_headroom(both, 1000000), 800000);
  ck_assert_uint_eq(config_after_headroom(much, 1000000), 50000);
  ck_assert_uint_eq(config_after_headroom(tenth, 50000), 2500);
}
END_TEST

START_TEST(too_many_domains_are_refused) {
  static char text[CONFIG_DOMAINS_MAX * 48];
  size_t n = 0;
  for (int i = 0; i <= CONFIG_DOMAINS_MAX; i++) n += (size_t)snprintf(text + n, sizeof(text) - n, "[domain /%d]\nheadroom = 0.1\n", i);
  refuses(text, 2 * CONFIG_DOMAINS_MAX + 2, "more than");
}
END_TEST

UNIT_MAIN("config", all_keys_are_read, errors_name_file_line_and_the_nearest_right_key, sections_without_keys_are_checked_as_well,
          long_lines_and_paths_are_read, comments_and_blanks_do_not_matter, values_are_checked,
          a_missing_file_is_an_error_only_when_it_was_named, headroom_leaves_something, too_many_domains_are_refused)
