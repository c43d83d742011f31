/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_SCOPE_H
#define RATION_CLI_SCOPE_H
/*
 * Where no cgroup can be made below the caller's own, because others are in that (cgroup v2, a login session), systemd gives `ration run --cpus` one of its own: the same
 * command once more, in a scope in the caller's slice that is delegated to it, and that systemd removes when it is empty.
 */
#include <stdbool.h>
#include <stddef.h>

#define SCOPE_AGAIN "RATION_SCOPE_AGAIN" /* in the environment of the second: it does not ask for a third */
#define SCOPE_INVOCATION "INVOCATION_ID" /* systemd-run sets it to the scope's; SCOPE_AGAIN holds what it was before, or nothing */
#define SCOPE_WORDS 9                    /* of systemd-run before the command's own */

/* Is this the second?  Makes the environment again what it was for the first. */
bool scope_is_second(void);
/* The command line: systemd-run's words, `self`, and the words after the first of `words` (each ended by a 0 byte). argv has room for `most`.  Their number, or -E2BIG. */
int scope_command(const char **argv, size_t most, const char *self, const char *words, size_t bytes);
/* Becomes it.  Returns where there is no systemd, or the caller is not root: as if it had not been called. */
void scope_enter(void);

#endif
