#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# A JVM with threads of its own and with two collectors: requests, queues, faults, interrupts; a thread dump, and its end by SIGTERM.
# timeout: 300
# shellcheck disable=SC2034,SC2154 # WAYS is servers.sh's
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need java
mkdir "$dir/classes"
java -m jdk.compiler/com.sun.tools.javac.Main -d "$dir/classes" "$(dirname "$0")/Service.java" >"$dir/log" 2>&1 || { cat "$dir/log"; echo "this JVM has no compiler"; exit 77; }

begin() {
  rm -f "$dir/never"
  mkfifo "$dir/never"
  launch bash -c 'exec java "$@" <>"$0"' "$dir/never" -XX:+Use"$collector"GC -Xmx128m -cp "$dir/classes" Service waits
}
ready() { grep -q '^true$' "$dir/log"; }
load() {
  grep -vE '^OpenJDK|^ *$' "$dir/log"
  kill -QUIT "$server"
  until_true 20 grep -q 'JNI global refs' "$dir/log" || echo "no thread dump"
  grep -cE '^"(main|VM Thread|Signal Dispatcher|Finalizer)"' "$dir/log"
}
collector=G1
in_each_way G1 begin ready load
collector=Parallel WAYS="plain free"
in_each_way Parallel begin ready load
