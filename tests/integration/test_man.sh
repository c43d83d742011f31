#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# The manual: each function of the headers is in the synopsis of a page, and has a page when installed; the pages say what they name;
# and they render without warnings.
cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
# verdict NAME FILE: what is wrong, a line each
verdict() {
  if [ -s "$2" ]; then
    echo "not ok - $1"
    sed 's/^/#   /' "$2" | head -40
    bad=1
  else
    echo "ok - $1"
  fi
}

docs/man/names docs/man/*.3 | cut -d' ' -f1 >"$tmp/links"
for page in docs/man/*.3; do basename "$page" .3; done >"$tmp/pages"
sort "$tmp/links" "$tmp/pages" >"$tmp/named"

# Declarations, and what is defined in the headers; names with _ at the end are not for users.
cat shim/include/ration/*.h | tr '\n' ' ' | grep -oE 'RATION_API [^;(]*\(|static inline [^;(]*\(' | grep -oE 'ration_[a-z_]+ ?\($' | tr -d ' (' | sort -u >"$tmp/api"
grep -hoE '^#define RATION_[A-Z_]+\(' shim/include/ration/*.h | sed 's/^#define //; s/($//' | grep -v '_$' | sort -u >>"$tmp/api"
sort -o "$tmp/api" "$tmp/api"
[ "$(wc -l <"$tmp/api")" -gt 150 ] || echo "only $(wc -l <"$tmp/api") functions found in the headers" >"$tmp/few"
verdict "the headers can be read" "$tmp/few"
comm -23 "$tmp/api" "$tmp/named" >"$tmp/missing"
verdict "each function has a synopsis" "$tmp/missing"

# The other way round; a typedef of a function is no function.
grep -hoE '\b(ration|RATION)_[A-Za-z_]+' shim/include/ration/*.h | sort -u >"$tmp/words"
comm -23 <(sort -u "$tmp/links") "$tmp/words" >"$tmp/gone"
verdict "what has a synopsis is in the headers" "$tmp/gone"

docs/man/names docs/man/*.3 | cut -d' ' -f1 | sort | uniq -d >"$tmp/twice"
verdict "no function has two pages" "$tmp/twice"

# Prototypes are those of the headers: all words between the name and the closing parenthesis, names of parameters included.
squeeze() { tr '\n\t' '  ' | tr -s ' ' | grep -oE '[a-zA-Z_][a-zA-Z0-9_ ]*[ *]+ration_[a-z_]+\([^;{]*\)' | sed -E 's/^ *(RATION_API|static inline) //; s/ __attribute__.*//; s/ *([*(),]) */\1/g; s/ \[/[/g' | sort -u; }
sed -E 's,/\*.*\*/,,; /^ ?\*/d' shim/include/ration/*.h | grep -v '^#' | squeeze >"$tmp/declared"
for page in docs/man/*.3; do
  awk '/^\.SH/ { on = $2 == "SYNOPSIS" } on && /^\.(B|BI) / { $1 = ""; print }' "$page" | sed -E 's/" ?//g; s/ ?"//g; s/\\-/-/g' | grep -v typedef
done | squeeze >"$tmp/shown"
comm -23 "$tmp/shown" "$tmp/declared" >"$tmp/differ"
[ "$(wc -l <"$tmp/shown")" -gt 140 ] || echo "only $(wc -l <"$tmp/shown") prototypes found in the pages" >>"$tmp/differ"
verdict "prototypes are those of the headers" "$tmp/differ"

# Cross-references.
for page in docs/man/*.[1-8]; do
  grep -oE '^\.BR (ration[a-z_\\-]*|rationd(\.conf)?) \([1-8]\)' "$page" | sed -E 's/^\.BR //; s/\\//g; s/ \(([1-8])\)/.\1/' | sort -u | while read -r ref; do
    [ -e "docs/man/$ref" ] || { [ "${ref##*.}" = 3 ] && grep -qxF "${ref%.3}" "$tmp/links"; } || echo "$page refers to $ref"
  done
done >"$tmp/dangling"
verdict "what pages refer to is there" "$tmp/dangling"

for page in docs/man/*.3; do
  for section in NAME SYNOPSIS DESCRIPTION "RETURN VALUE" EXAMPLE "SEE ALSO"; do
    grep -qE "^\.SH \"?$section" "$page" || echo "$page has no $section"
  done
done >"$tmp/sections"
verdict "pages of section 3 are complete" "$tmp/sections"

if command -v man >/dev/null; then
  for page in docs/man/*.[1-8]; do
    LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -Tutf8 -Z -l "$page" >/dev/null 2>"$tmp/warned" || echo "$page: man failed"
    sed "s|^|$page: |" "$tmp/warned"
  done >"$tmp/warnings"
  verdict "pages render without warnings" "$tmp/warnings"
else
  echo "ok - pages render without warnings # SKIP no man"
fi
if command -v mandoc >/dev/null; then
  mandoc -Tlint -Werror docs/man/*.[1-8] >"$tmp/lint" 2>&1
  grep -E 'ERROR|UNSUPP' "$tmp/lint" >"$tmp/errors"
  verdict "mandoc finds no errors" "$tmp/errors"
else
  echo "ok - mandoc finds no errors # SKIP no mandoc"
fi

# Installed: the page of a function is that of its subject.
if [ -x "${BUILD:-build}/ration" ] && command -v man >/dev/null; then
  make -s --no-print-directory install BUILD="${BUILD:-build}" DESTDIR="$tmp/root" PREFIX=/usr >"$tmp/said" 2>&1 || cat "$tmp/said" >"$tmp/unfound"
  while read -r name page; do
    link=$tmp/root/usr/share/man/man3/$name.3
    [ "$(readlink "$link")" = "$page" ] && [ -e "$link" ] || echo "$name"
  done < <(docs/man/names docs/man/*.3) >>"$tmp/unfound"
  man -M "$tmp/root/usr/share/man" ration_mutex_lock >"$tmp/page" 2>&1
  grep -q ration_rwmutex_tryrlock "$tmp/page" || echo "man ration_mutex_lock: $(head -3 "$tmp/page")" >>"$tmp/unfound"
  verdict "man finds each function where it is installed" "$tmp/unfound"
else
  echo "ok - man finds each function where it is installed # SKIP not built, or no man"
fi
exit $bad
