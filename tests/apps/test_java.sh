#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# The JVM: configured and available processors, as it logs them, and the threads of its collector.
# timeout: 240
. "$(dirname "$0")/lib.sh"
need java
java -Xlog:gc+init -version 2>&1 | grep -q 'CPUs: ' || { echo "this JVM does not log its CPUs"; exit 77; }

jvm() { java -XX:+UseParallelGC -Xmx64m -Xlog:gc+init -version 2>/dev/null | sed -nE "s/.*CPUs: ([0-9]+) total, ([0-9]+) available.*/\\$1/p"; }
export -f jvm
counts total bash -c 'jvm 1'
counts available bash -c 'jvm 2'
counts gc_threads bash -c 'java -XX:+UseParallelGC -Xmx64m -XX:+PrintFlagsFinal -version 2>/dev/null | awk "\$2 == \"ParallelGCThreads\" {print \$4}"'
same version java -Xmx64m -version
