#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# nginx with a pool of threads that read its files, for many clients at once; the new configuration by SIGHUP.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need nginx python3
nginx -V 2>&1 | grep -q -- --with-threads || { echo "this nginx has no threads"; exit 77; }
mkdir "$dir/root"
for i in $(seq 20); do seq "$i" "$((i + 40000))" >"$dir/root/$i"; done
chmod -R a+rX "$dir"
user=
[ "$(id -u)" -eq 0 ] && user="user $(id -un);"
cat >"$dir/conf" <<END
$user
worker_processes 2;
thread_pool default threads=8;
daemon off;
pid $dir/pid;
error_log $dir/error.log warn;
events {}
http {
  access_log off;
  aio threads; aio_write on; sendfile on; sendfile_max_chunk 64k; output_buffers 2 32k;
  client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fcgi;
  uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
  server {
    listen unix:$dir/sock; root $dir/root;
    location /read { alias $dir/root; sendfile off; }
  }
}
END

begin() {
  rm -f "$dir/sock" "$dir/pid" "$dir/error.log"
  launch nginx -p "$dir" -e "$dir/error.log" -c "$dir/conf"
}
ready() { python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"GET /1 HTTP/1.0\r\n\r\n"); assert s.recv(99)' "$dir/sock"; }
requests() {
  unix_clients '[(("/read/%d" if r % 2 else "/%d") % (r + 1), {"Range": "bytes=%d-" % (r * 1000)} if r % 3 == 0 else {})]'
}
# Whoever came to a worker that is about to go would lose its connection between two requests.
none_of() {
  local p
  for p; do [ ! -d "/proc/$p" ] || return 1; done
}
load() {
  local workers
  requests || return 1
  mapfile -t workers < <(pgrep -P "$server")
  kill -HUP "$server"
  until_true 30 none_of "${workers[@]}" || return 1
  requests
  local r=$?
  grep -vE 'using the "user" directive' "$dir/error.log" | cut -d' ' -f3- | sed -E 's/[0-9]+#[0-9]+/N/g'
  return $r
}
in_each_way threads begin ready load
