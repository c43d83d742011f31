# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154  # lib.sh sets lib and n
#
# What the tests of servers share.  A server is started by hand, on a socket or port and in a directory of its own; gets the same load plain,
# locked and free; and has to give the same answers, and to end by SIGTERM with the same status.
#
#   . lib.sh; . servers.sh
#   begin() { launch PROGRAM ARGS...; }   # $dir is the test's directory, $way the way
#   ready() { ...; }                      # true when it answers
#   load() { ...; }                       # prints what is compared
#   in_each_way NAME begin ready load
WAYS=${WAYS:-plain locked free} # and free1: on one P
dir=$(mktemp -d "${TMPDIR:-/tmp}/server.XXXXXX")
chmod 755 "$dir"
server=
way=

cleanup() {
  [ -n "$server" ] && kill -KILL "$server" 2>/dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

launch() { # launch CMD...: the server in the background, as $way says; its pid is $server
  local how=(-u LD_PRELOAD)
  [ "$way" = plain ] || how=(RATION_STANDALONE=1 RATION_THREADS="${way%1}" LD_PRELOAD="$lib")
  [ "$way" = free1 ] && how+=(RATION_MAXPROCS=1)
  : >"$dir/log" # now: nobody is to find what the last one wrote
  env "${how[@]}" "$@" >"$dir/log" 2>&1 &
  server=$!
}

# Neither gone (the shell may wait for it at any time) nor a zombie.
runs() { grep -q '^State:.[^Z]' "/proc/$server/status" 2>/dev/null; }

until_true() { # until_true SECONDS CMD...: false if it takes longer, or the server has ended
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    { [ $SECONDS -lt $end ] && runs; } || return 1
    sleep 0.05
  done
}

ended() { ! runs; }

# The server's exit status is in $status; one that does not end in 30 s is killed, and has "hangs" for it.
stop() { # stop [SIGNAL]
  local i
  kill -"${1:-TERM}" "$server" 2>/dev/null
  for ((i = 0; i < 600; i++)); do
    ended && break
    sleep 0.05
  done
  status=
  if runs; then
    status=hangs
    kill -KILL "$server"
  fi
  wait "$server" 2>/dev/null
  status=${status:-$?}
  server=
}

# The process, or a child of it, runs Gs.
has_carriers() {
  local p
  for p in "$server" $(pgrep -P "$server"); do
    grep -qx ration-carrier "/proc/$p"/task/*/comm 2>/dev/null && return 0
  done
  return 1
}

kernel_threads() { # of the process and its children
  local p n=0
  for p in "$server" $(pgrep -P "$server"); do n=$((n + $(find "/proc/$p/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l))); done
  echo "$n"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

unix_clients() { # unix_clients REQUESTS: 16 at once on $dir/sock, each asks REQUESTS(r), a list of (path, headers) in Python, for r in 0 .. 19
  timeout -s KILL 60 python3 - "$dir/sock" "$1" <<'END'
import hashlib, http.client, socket, sys, threading
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(sys.argv[1])
requests = eval("lambda r: " + sys.argv[2])
N = 16
sums = [None] * N
def client(i):
    h = hashlib.sha256()
    c = Connection("localhost")
    for r in range(20):
        for path, headers in requests(r):
            c.request("GET", path, headers=headers)
            answer = c.getresponse()
            h.update(b"%d" % answer.status + answer.read())
    sums[i] = h.hexdigest()
threads = [threading.Thread(target=client, args=(i,)) for i in range(N)]
for t in threads: t.start()
for t in threads: t.join()
print(*set(sums), sep="\n")
END
}

said() { # what it wrote, for a failure
  echo "  $way: $1" >&2
  tail -n 15 "$dir/log" | sed 's/^/    /' >&2
}

# One life of the server; what it answered goes to $dir/got, with its exit status.
one_life() { # one_life BEGIN READY LOAD
  "$1"
  if ! until_true 60 "$2"; then
    said "does not answer"
    stop KILL
    said "status $status"
    return 1
  fi
  "$3" >"$dir/got" 2>&1
  echo "load $?" >>"$dir/got"
  echo "# $way: $(kernel_threads) kernel threads after the load"
  case $way in free*) has_carriers || said "no carriers" >>"$dir/got" 2>&1 ;; esac
  stop
  echo "status $status" >>"$dir/got"
}

in_each_way() { # in_each_way NAME BEGIN READY LOAD
  local name=$1
  shift
  for way in $WAYS; do
    rm -f "$dir/got"
    one_life "$@"
    if [ "$way" = plain ]; then
      grep -q '^load 0$' "$dir/got" || said "the load failed"
      grep -q '^load 0$' "$dir/got"
      report $? "${name}_plain_works"
      cp "$dir/got" "$dir/want" || exit 1
      continue
    fi
    cmp -s "$dir/want" "$dir/got" || { diff "$dir/want" "$dir/got" >&2; said "differs"; }
    cmp -s "$dir/want" "$dir/got"
    report $? "${name}_${way}_works_the_same"
  done
}
