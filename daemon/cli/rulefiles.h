/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_RULEFILES_H
#define RATION_CLI_RULEFILES_H
/*
 * The files of rules: those that came with ration, the host's own in /etc, the user's.
 */
#include "daemon/cli/rules.h"

#define RULEFILES_ETC "/etc/ration/apps.d"

/*
 * Reads the directories that RATION_PROFILES names, or the usual ones.  What cannot be read, or is not to be trusted, becomes a
 * problem of `r`.  0 or -ENOMEM.
 */
int rulefiles_load(struct rules *r);
/* One file.  Also -errno if it cannot be read, -EPERM if it is not to be trusted: a problem, too. */
int rulefiles_read(struct rules *r, const char *path);

#endif
