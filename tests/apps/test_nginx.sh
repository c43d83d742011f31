#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# nginx with "worker_processes auto": as many workers as CPUs, and it answers.
# shellcheck disable=SC2154  # lib.sh sets lib, real and fewer
. "$(dirname "$0")/lib.sh"
need nginx python3
dir=$(mktemp -d "${TMPDIR:-/tmp}/nginx.XXXXXX")
master=
cleanup() {
  [ -n "$master" ] && kill -TERM "$master" 2>/dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

mkdir "$dir/root" && echo hello >"$dir/root/index.html" && chmod -R a+rX "$dir"
# The directory may be closed to the user that nginx would become.
user=
[ "$(id -u)" -eq 0 ] && user="user $(id -un);"
cat >"$dir/conf" <<END
$user
worker_processes auto;
daemon off;
pid $dir/pid;
error_log $dir/error.log;
events {}
http {
  access_log off;
  client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fcgi;
  uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
  server { listen unix:$dir/sock; root $dir/root; }
}
END

# Prints the number of workers; the page goes to $dir/page.
workers() {
  rm -f "$dir/sock" "$dir/page" "$dir/pid"
  "$@" nginx -p "$dir" -e "$dir/error.log" -c "$dir/conf" >"$dir/out" 2>&1 &
  master=$!
  python3 - "$dir" "$master" <<'END'
import os, socket, sys, time
dir, master = sys.argv[1:]
def workers():
    n = 0
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            n += f[1] == master and b"worker process" in open(f"/proc/{p}/cmdline", "rb").read()
        except OSError:
            pass
    return n
page = b""
for _ in range(200):
    try:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(dir + "/sock")
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while chunk := s.recv(4096): page += chunk
        break
    except OSError:
        time.sleep(0.05)
open(dir + "/page", "wb").write(page.rsplit(b"\r\n\r\n", 1)[-1])
# All are forked by the time that one of them answers, or very soon after: wait until the number rests.
last, rest = -1, 0
while rest < 5:
    now = workers()
    rest, last = (rest + 1 if now == last else 0), now
    time.sleep(0.05)
print(now)
END
  kill -QUIT "$master"
  wait "$master"
  echo "$?" >"$dir/status"
  master=
}

got=$(workers env -u LD_PRELOAD)
[ "$got" = "$real" ] || { cat "$dir/out" "$dir/error.log" >&2; echo "  plain: $got workers" >&2; }
[ "$got" = "$real" ]
report $? workers_plain_are_all
[ "$(cat "$dir/page")" = hello ]
report $? page_plain_is_there
for mode in off locked; do
  for few in "" $fewer; do
    got=$(workers env RATION_STANDALONE=1 RATION_THREADS=$mode ${few:+RATION_MAXPROCS=$few} LD_PRELOAD="$lib")
    [ "$got" = "${few:-$real}" ] || { cat "$dir/out" "$dir/error.log" >&2; echo "  $got workers" >&2; }
    [ "$got" = "${few:-$real}" ]
    report $? "workers_${mode}_are_${few:-all}"
    [ "$(cat "$dir/page")" = hello ]
    report $? "page_${mode}_${few:-all}_is_the_same"
    [ "$(cat "$dir/status")" = 0 ]
    report $? "quit_${mode}_${few:-all}_ends_it_cleanly"
  done
done
