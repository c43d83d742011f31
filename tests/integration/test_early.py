#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 240
"""What a program does before its attaching, which is put off for some ms: it has the CPUs of its quota, and is attached in the end."""
import os
import subprocess

import faults
from faults import attached, b, case, stats, wait_for

EARLY = os.path.join(b.BUILD, "tests/integration/early")
ENDS = 50


def environments(daemon):
    for threads in ("off", "locked", "free"):
        for how, more in (("daemon", {}), ("standalone", {"RATION_STANDALONE": "1"})):
            yield f"{threads}, {how}", dict(b.mode_env("ration", daemon), RATION_THREADS=threads, **more)


def says(what, want):
    daemon = b.Daemon()
    with b.Group(1.0, "early") as g:
        for name, env in environments(daemon):
            p = b.start([EARLY, what], g, env)
            out, err = p.communicate(timeout=30)
            assert (p.returncode, sorted(out.split("\n")), err) == (0, sorted(want.split("\n")), ""), f"{name}: exit status {p.returncode}: {out!r} {err!r}"


@case
def a_child_of_the_first_moment_counts_its_cpus():
    says("forks", "child 1\nthread 1\nparent 1\n")


@case
def who_makes_ration_step_aside_at_once_counts_its_cpus():
    says("unshares", "unshared 1\nthread 1\n")


def becomes_attached(*command, first=""):
    daemon = b.Daemon()
    with b.Group(1.0, "early") as g:
        p = b.start(command, g, b.mode_env("ration", daemon))
        assert not first or p.stdout.readline() == first
        wait_for("it is attached", lambda: p.pid in attached(daemon))
        p.kill()
        p.wait()


@case
def who_leaves_the_sockets_directory_is_attached():
    becomes_attached(EARLY, "chroots", b.temp_dir(), first="stays\n")


@case
def who_may_have_no_descriptors_is_attached():
    becomes_attached(EARLY, "limits", first="stays\n")


@case
def who_only_sleeps_is_attached():
    becomes_attached("sleep", "100")


@case
def who_has_ended_has_not_been_attached():
    daemon = b.Daemon()
    before = stats(daemon)["attaches"]
    for _ in range(ENDS):
        subprocess.run([EARLY, "ends"], env=b.mode_env("ration", daemon), check=True)
    attaches = stats(daemon)["attaches"] - before
    assert attaches < ENDS, "all of them"


faults.main()
