#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# apache with mpm_worker and mpm_event: pages, a listing and a big file for many clients at once; also the graceful stop.
# timeout: 240
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need apache2 python3
modules=/usr/lib/apache2/modules
mkdir "$dir/root" "$dir/root/list"
echo hello >"$dir/root/index.html"
head -c 3000000 /dev/zero | tr '\0' x >"$dir/root/big"
touch "$dir/root/list/a" "$dir/root/list/b"
chmod -R a+rX "$dir"
[ -z "${TMPDIR:-}" ] || chmod a+x "$TMPDIR" # its children are www-data
user=$(id -un) group=$(id -gn)
[ "$(id -u)" -eq 0 ] && user=www-data group=www-data

conf() { # conf MPM
  local m
  echo "LoadModule mpm_$1_module $modules/mod_mpm_$1.so"
  for m in authz_core dir autoindex; do echo "LoadModule ${m}_module $modules/mod_$m.so"; done
  cat <<END
ServerRoot $dir
ServerName localhost
DefaultRuntimeDir $dir
PidFile $dir/pid
Listen 127.0.0.1:$port
User $user
Group $group
ErrorLog $dir/error.log
DocumentRoot $dir/root
DirectoryIndex index.html
IndexOptions +SuppressLastModified
StartServers 4
MinSpareThreads 16
MaxSpareThreads 64
ThreadsPerChild 16
MaxRequestWorkers 64
GracefulShutdownTimeout 10
<Directory $dir/root>
  Options +Indexes
  Require all granted
</Directory>
END
}

begin() {
  port=$(free_port)
  : >"$dir/error.log"
  conf "$mpm" >"$dir/conf"
  launch apache2 -f "$dir/conf" -DFOREGROUND
}
ready() { python3 -c 'import sys, urllib.request; urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1], timeout=5)' "$port"; }
load() {
  timeout -s KILL 90 python3 - "$port" <<'END'
import hashlib, http.client, sys, threading
N, ROUNDS = 24, 15
sums = [None] * N
def client(i):
    h = hashlib.sha256()
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    for r in range(ROUNDS):
        for path in "/", "/list/", "/no", "/big" if r % 5 == 0 else "/index.html":
            for attempt in 0, 1: # a server may close a connection that it keeps just when the next request comes
                try:
                    c.request("GET", path, headers={"Connection": "close"} if r % 7 == 6 else {})
                    answer = c.getresponse()
                    break
                except (http.client.RemoteDisconnected, ConnectionError):
                    c.close()
                    if attempt: raise
            h.update(b"%d" % answer.status + answer.read())
            if answer.status == 200 and path == "/big": h.update(answer.getheader("Content-Length").encode())
    sums[i] = h.hexdigest()
threads = [threading.Thread(target=client, args=(i,)) for i in range(N)]
for t in threads: t.start()
for t in threads: t.join()
print(len(set(sums)), sums[0].count("") and "same")
print(set(sums).pop()) if len(set(sums)) == 1 else print("clients differ", sums)
END
  local l=$?
  grep -vE 'AH00(489|490|491|492|493|094|163|292|295|170)|AH00051' "$dir/error.log" | cut -d']' -f2,4- | sed 's/^/log: /'
  return $l
}
for mpm in worker event; do in_each_way "$mpm" begin ready load; done
