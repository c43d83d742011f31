#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 120
"""The disk of the daemon's log is full: it serves on, and so do its clients."""
import os
import shutil
import subprocess

import faults
from faults import Worker, b, case, wait_attached


class DaemonWithLog(b.Daemon):
    """A daemon that logs everything to `log_file`; `shell` runs before it, in a mount namespace of its own."""

    def __init__(self, log_file, shell=None):
        self.shell, self.log_file = shell, log_file
        d = b.temp_dir()
        conf = os.path.join(d, "rationd.conf")
        b.write_text(conf, f"[daemon]\nlog_file = {log_file}\nlog_level = debug\n")
        super().__init__(args=["--config", conf], dir=d)

    def start(self, wait=10):
        # Without --foreground, which would log to stderr only.
        cmd = [b.RATIOND, "--socket", self.socket] + self.args
        if self.shell:
            cmd = ["unshare", "--mount", "sh", "-c", self.shell + ' && exec "$@"', "sh"] + cmd
        self.process = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open("/dev/full", "w"))
        faults.wait_for("the daemon answers", lambda: self.answers() or self.process.poll() is not None, wait)
        assert self.process.poll() is None, f"the daemon ended with status {self.process.returncode}"


def serve_through(daemon):
    with b.Group(1.0, "faults") as g:
        first = Worker(daemon, g, rounds=20000, pause_ms=2)
        wait_attached(daemon, first)
        for i in range(40):  # each comes and goes with lines in the log
            Worker(daemon, g, rounds=50).check()
            if i % 10 == 0:
                g.set_cpus(0.5 + i % 3)
        first.check()
    assert daemon.answers(), "the daemon no longer answers"
    assert daemon.process.poll() is None


@case
def a_log_on_a_full_tmpfs():
    if os.geteuid() or not shutil.which("unshare"):
        raise faults.Skip("needs root and unshare to mount a tmpfs of its own")
    d = b.temp_dir()
    daemon = DaemonWithLog(os.path.join(d, "rationd.log"), f"mount -t tmpfs -o size=8k none {d}")
    serve_through(daemon)
    left = os.statvfs(f"/proc/{daemon.process.pid}/root{d}")
    size = os.path.getsize(f"/proc/{daemon.process.pid}/root{d}/rationd.log")
    assert left.f_blocks * left.f_frsize <= 16384, "the tmpfs was not the daemon's"
    if left.f_bfree:
        raise faults.Skip(f"the daemon wrote only {size} bytes: the disk was not full")


@case
def a_log_that_is_dev_full():
    daemon = DaemonWithLog("/dev/full")
    serve_through(daemon)


faults.main()
