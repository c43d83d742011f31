#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ration run tells apart the programs that it cannot help, says so in one line, and sets their own knobs."""
import os
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import TMP, RATION, Skip, clean_env, compile_c, equal, harmless_lib, has, main, ration

LIB = harmless_lib()
os.chmod(TMP, 0o755)
ENV = """
#include <stdio.h>
#include <stdlib.h>
static const char *const names[] = {"LD_PRELOAD", "GOMAXPROCS", %s};
int main(void) {
  for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) printf("%%s=%%s\\n", names[i], getenv(names[i]) ? getenv(names[i]) : "-");
}
"""


def prog(name, *flags, names='"X"'):
    return compile_c(name, ENV % names, *flags)


def with_section(path, section, name):
    out = os.path.join(TMP, name)
    data = os.path.join(TMP, "section")
    with open(data, "wb") as f:
        f.write(b"\xff Go buildinf:\x08\x02" + bytes(16))
    try:
        subprocess.run(["objcopy", "--add-section", f"{section}={data}", "--set-section-flags", f"{section}=alloc,readonly", path, out],
                       check=True, capture_output=True)
    except FileNotFoundError:
        raise Skip("no objcopy") from None
    return out


def run(*args, **env):
    return ration("run", *args, env={"RATION_LIB": LIB, **env})


def one_line(p, *parts):
    equal(p.returncode, 0, p.stderr)
    equal(p.stderr.count("\n"), 1, p.stderr)
    for part in parts:
        has(p.stderr, part)


def dynamic_programs_are_not_mentioned():
    p = run(prog("dynamic"))
    equal((p.returncode, p.stderr), (0, ""))
    has(p.stdout, f"LD_PRELOAD={LIB}")


def static_programs_are():
    for name, flags in (("static", ["-static"]), ("staticpie", ["-static-pie"])):
        path = prog(name, *flags)
        p = run(path)
        one_line(p, f"ration: {path} is statically linked: it runs untouched")
        has(p.stdout, f"LD_PRELOAD={LIB}")  # for the programs that it starts
        equal(run("--quiet", path).stderr, "")


def stripped_static_program_is():
    path = prog("stripped", "-static", "-s")
    one_line(run(path), "is statically linked")


def go_gets_gomaxprocs():
    for section in (".go.buildinfo", ".note.go.buildid"):
        path = with_section(prog("static", "-static"), section, "go")
        p = run(path)
        one_line(p, "is statically linked (Go): it runs untouched, with GOMAXPROCS=")
        has(p.stdout, f"GOMAXPROCS={len(os.sched_getaffinity(0))}" if len(os.sched_getaffinity(0)) == os.cpu_count() else "GOMAXPROCS=")
        p = run(path, GOMAXPROCS="77")
        has(p.stdout, "GOMAXPROCS=77")
        if "GOMAXPROCS" in p.stderr:
            raise AssertionError(p.stderr)


def go_with_cgo_gets_it_too():
    p = run(with_section(prog("dynamic"), ".go.buildinfo", "cgo"))
    equal(p.stderr, "")
    has(p.stdout, "GOMAXPROCS=")
    if "GOMAXPROCS=-" in p.stdout:
        raise AssertionError(p.stdout)


def gomaxprocs_is_the_limit_rounded_up():
    path = with_section(prog("static", "-static"), ".go.buildinfo", "go")
    cases = [("0.3", "1"), ("1", "1")] + ([("1.01", "2"), ("2", "2")] if os.cpu_count() >= 2 else [])
    for cpus, want in cases:
        p = run("--cpus", cpus, path)
        if p.returncode == 125:
            raise Skip(p.stderr.strip())
        has(p.stdout, f"GOMAXPROCS={want}\n")


def real_go_program_is_recognized():
    go = shutil.which("go")
    if not go:
        raise Skip("no Go compiler")
    src = os.path.join(TMP, "main.go")
    with open(src, "w") as f:
        f.write('package main\nimport ("fmt"; "runtime")\nfunc main() { fmt.Println(runtime.GOMAXPROCS(0)) }\n')
    path = os.path.join(TMP, "realgo")
    subprocess.run([go, "build", "-ldflags=-s -w", "-o", path, src], check=True, env=dict(os.environ, CGO_ENABLED="0", GOCACHE=TMP, HOME=TMP))
    p = run("--cpus", "1", path)
    if p.returncode == 125:
        raise Skip(p.stderr.strip())
    equal(p.stdout, "1\n")
    has(p.stderr, "(Go)")


def other_static_runtimes_get_their_own_knobs_only():
    path = prog("omp", "-static", names='"OMP_NUM_THREADS", "RAYON_NUM_THREADS"')
    p = run(path)
    has(p.stderr, "OMP_NUM_THREADS=")
    has(p.stderr, "RAYON_NUM_THREADS=")
    if "TOKIO" in p.stderr:
        raise AssertionError(p.stderr)
    has(run(path, OMP_NUM_THREADS="5").stdout, "OMP_NUM_THREADS=5")
    p = run(prog("ompdyn", names='"OMP_NUM_THREADS"'))
    has(p.stdout, "OMP_NUM_THREADS=-")  # preloadable: it sees the right CPU count by itself


def scripts_are_followed():
    static = prog("static", "-static")
    first = os.path.join(TMP, "first")
    with open(first, "w") as f:
        f.write(f"#!{static}\n")
    os.chmod(first, 0o755)
    second = os.path.join(TMP, "second")
    with open(second, "w") as f:
        f.write(f"#! {first} -x\n")
    os.chmod(second, 0o755)
    one_line(run(second), f"{static} is statically linked")
    loop = os.path.join(TMP, "loop")
    with open(loop, "w") as f:
        f.write(f"#!{loop}\n")
    os.chmod(loop, 0o755)
    p = run(loop)
    equal(p.returncode, 126)
    has(p.stderr, "loop")


def env_in_a_script_is_followed():
    static = prog("static", "-static")
    path = os.path.join(TMP, "envscript")
    with open(path, "w") as f:
        f.write("#!/usr/bin/env static\n")
    os.chmod(path, 0o755)
    p = run(path, PATH=TMP + ":" + os.environ["PATH"])
    one_line(p, f"{static} is statically linked")


def foreign_programs_are_not_preloaded():
    musl = prog("musl", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    p = run(musl)
    has(p.stderr, "is linked with musl, not glibc: it runs untouched")
    with open(prog("dynamic"), "rb") as f:
        image = bytearray(f.read())
    for name, at, value, say in (("arch", 18, 0xf3, "another architecture"), ("bits", 4, 1, "32-bit program")):
        path = os.path.join(TMP, name)
        other = bytearray(image)
        other[at] = value
        with open(path, "wb") as f:
            f.write(other)
        os.chmod(path, 0o755)
        has(run(path).stderr, say)


def damaged_headers_do_no_harm():
    """Every header cut short or filled with ones: an answer each, no crash."""
    with open(prog("static", "-static"), "rb") as f:
        image = f.read()
    path = os.path.join(TMP, "damaged")
    cuts = [image[:n] for n in (4, 16, 17, 40, 63, 64, 65, 120, 4096)]
    holes = [image[:n] + b"\xff" * 8 + image[n + 8:] for n in range(16, 64, 8)] + [image[:64] + b"\xff" * 560 + image[624:]]
    for data in cuts + holes:
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, 0o755)
        # A limit that is refused: after the look at the program, before it is run.
        p = ration("run", "--cpus", "100000", path, env={"RATION_LIB": LIB})
        equal(p.returncode, 125, p.stderr)


def binaries_are_not_given_to_the_shell():
    path = os.path.join(TMP, "refused")
    with open(path, "wb") as f:
        f.write(b"\x7fELF" + bytes(60) + b"\necho no\n")
    os.chmod(path, 0o755)
    p = run(path)
    equal((p.returncode, p.stdout), (126, ""))
    has(p.stderr, "Exec format error")


def setuid_programs_are_mentioned():
    if os.getuid() != 0:
        raise Skip("not root")
    path = prog("setuid")
    if os.statvfs(TMP).f_flag & os.ST_NOSUID:
        raise Skip("nosuid")
    os.chmod(path, 0o4755)
    equal(run(path).stderr, "")  # for root it changes nothing

    def nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    p = subprocess.run([RATION, "run", path], env=clean_env(RATION_LIB=LIB), preexec_fn=nobody, capture_output=True, text=True)
    if "Permission denied" in p.stderr:
        raise Skip("nobody cannot reach the build directory")
    has(p.stderr, "is setuid: it runs untouched")
    equal(stat.S_IMODE(os.stat(path).st_mode), 0o4755)


if __name__ == "__main__":
    main([dynamic_programs_are_not_mentioned, static_programs_are, stripped_static_program_is, go_gets_gomaxprocs, go_with_cgo_gets_it_too,
          gomaxprocs_is_the_limit_rounded_up, real_go_program_is_recognized, other_static_runtimes_get_their_own_knobs_only,
          scripts_are_followed, env_in_a_script_is_followed, foreign_programs_are_not_preloaded, damaged_headers_do_no_harm,
          binaries_are_not_given_to_the_shell,          setuid_programs_are_mentioned])
