#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ration quota: text, JSON, --root with trees of its own, and files that make no sense."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import TMP, equal, has, main, ration

KEYS = ["pid", "domain", "cgroup", "cgroup_version", "cpus", "slots", "last_slot_duty", "limited", "weighted", "exact", "decided_by",
        "source", "quota_us", "period_us", "burst_us", "cpus_allowed", "cpus_online", "cpus_cpuset", "cpus_affinity", "usage_ns",
        "throttling", "levels", "problem", "problems"]


def tree(name, files, pid=42, cgroup="0::/a/b\n", mountinfo="30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", cpus="0-7\n"):
    root = os.path.join(TMP, name)
    everything = {"sys/devices/system/cpu/online": cpus}
    for p in (str(pid), "self"):
        everything.update({f"proc/{p}/cgroup": cgroup, f"proc/{p}/mountinfo": mountinfo,
                           f"proc/{p}/status": f"Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}"})
    everything.update({f"sys/fs/cgroup/{k}": v for k, v in files.items()})
    for path, text in everything.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
    return root


V2 = {"cgroup.controllers": "cpu\n", "a/cpu.max": "max 100000\n", "a/cpu.weight": "100\n", "a/b/cpu.max": "150000 100000\n", "a/b/cpu.weight": "50\n",
      "a/b/cpu.stat": "usage_usec 5000000\nnr_periods 60\nnr_throttled 57\nthrottled_usec 3200000\n"}


def ask(root, *args):
    p = ration("quota", "--json", "--root", root, *args)
    return p.returncode, json.loads(p.stdout), p.stderr


def json_has_the_documented_keys():
    p = ration("quota", "--json")
    equal(p.returncode, 0, p.stderr)
    equal(list(json.loads(p.stdout)), KEYS)


def v2_tree_is_read():
    status, q, err = ask(tree("v2", V2), "--pid", "42")
    equal((status, err), (0, ""))
    equal((q["domain"], q["cpus"], q["slots"], q["last_slot_duty"], q["decided_by"]), ("/a/b", 1.5, 2, 0.5, "cfs"))
    equal((q["source"], q["quota_us"], q["period_us"]), ("/sys/fs/cgroup/a/b/cpu.max", 150000, 100000))
    equal(q["throttling"], {"nr_periods": 60, "nr_throttled": 57, "throttled_us": 3200000, "percent": 95.0})
    equal(q["usage_ns"], 5 * 10**9)
    equal([level["cgroup"] for level in q["levels"]][:2], ["/a/b", "/a"])
    text = ration("quota", "--pid", "42", "--root", tree("v2", V2)).stdout
    for word in ("/a/b", "1.5 (150 ms of CPU time every 100 ms)", "2, the last one with a duty of 50 %", "cfs: /sys/fs/cgroup/a/b/cpu.max",
                 "57 of 60 periods (95 %), 3.20 s in all", "50 (cpu.weight)"):
        has(text, word)


def tighter_ancestor_decides():
    status, q, _ = ask(tree("ancestor", {**V2, "a/cpu.max": "50000 100000\n"}), "--pid", "42")
    equal((status, q["cpus"], q["source"]), (0, 0.5, "/sys/fs/cgroup/a/cpu.max"))


def v1_tree_is_read():
    mounts = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    root = tree("v1", {"cpu/x/cpu.cfs_quota_us": "250000\n", "cpu/x/cpu.cfs_period_us": "100000\n", "cpu/x/cpu.shares": "512\n",
                       "cpu/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.stat": "nr_periods 4\nnr_throttled 1\nthrottled_time 1000000\n"},
                cgroup="4:cpu,cpuacct:/x\n", mountinfo=mounts)
    status, q, err = ask(root, "--pid", "42")
    equal((status, err, q["cgroup_version"], q["cpus"], q["slots"]), (0, "", 1, 2.5, 3))
    equal(q["throttling"]["throttled_us"], 1000)


def without_a_quota_the_host_decides():
    status, q, err = ask(tree("free", {"cgroup.controllers": "cpu\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "max 100000\n"}), "--pid", "42")
    equal((status, err, q["cpus"], q["limited"], q["throttling"]), (0, "", 8.0, False, None))


def malformed_file_is_named_with_its_line():
    for text in ("abc 100000\n", "-5 100000\n", "\n", "100000 0\n", "1e9 100000\n", "99999999999999999999999 100000\n"):
        root = tree("bad", {"cgroup.controllers": "cpu\n", "a/b/cpu.max": text, "a/cpu.max": "max 100000\n"})
        status, q, err = ask(root, "--pid", "42")
        equal(status, 1, text)
        has(err, f"{root}/sys/fs/cgroup/a/b/cpu.max:1")
        equal(q["problems"] >= 1, True)
        has(q["problem"], "cpu.max:1")


def malformed_file_beside_a_good_one_is_a_note():
    root = tree("half", {**V2, "a/cpu.max": "nonsense\n"})
    status, q, err = ask(root, "--pid", "42")
    equal((status, q["cpus"]), (0, 1.5))
    has(err, "a/cpu.max:1")


def files_without_end_are_named():
    links = {"sys/fs/cgroup/a/b/cpu.max": "/sys/fs/cgroup/a/b/cpu.max:1", "proc/42/cgroup": "/proc/42/cgroup:1", "proc/42/status": "/proc/42/status:1",
             "proc/42/mountinfo": "/proc/42/mountinfo:1", "sys/devices/system/cpu/online": "/sys/devices/system/cpu/online:1",
             "sys/fs/cgroup/a/b/cpu.weight": "/sys/fs/cgroup/a/b/cpu.weight:1", "sys/fs/cgroup/a/b/cpu.stat": None}
    for i, (link, named) in enumerate(links.items()):
        root = tree(f"endless{i}", V2)
        os.unlink(os.path.join(root, link))
        os.symlink("/dev/zero", os.path.join(root, link))
        _, q, err = ask(root, "--pid", "42")
        if named:
            has(err, f"ration quota: {root}{named}: ")
            has(q["problem"], named)
        else:
            equal((err, q["throttling"]), ("", None))


def huge_numbers_are_as_long_above_as_below():
    root = tree("huge", {**V2, "a/b/cpu.max": "10000000000000000000 10000000000000000000\n"})
    p = ration("quota", "--root", root, "--pid", "42")
    equal((p.returncode, p.stderr), (0, ""))
    has(p.stdout, "1 (213503d23h of CPU time every 213503d23h)")
    equal(p.stdout.count("213503d23h"), 4, p.stdout)


def absent_processes_and_roots_are_said():
    p = ration("quota", "--pid", "42424242", "--root", tree("v2", V2))
    equal((p.returncode, p.stdout), (1, ""))
    has(p.stderr, "there is no process 42424242")
    p = ration("quota", "--root", "/no/such")
    equal((p.returncode, p.stdout), (1, ""))
    has(p.stderr, "/no/such/proc: No such file")
    equal(ration("quota", "--root", "").returncode, 1)
    equal(ration("quota", "--root", "/" + "x" * 5000).returncode, 1)


def bad_options_are_refused():
    for args in (["--pid", "x"], ["--pid", "0"], ["--pid", "-1"], ["--pid", "99999999999"], ["--pid"], ["--pid", ""], ["surplus"], ["--jsom"]):
        p = ration("quota", *args)
        equal((p.returncode, p.stdout), (2, ""), args)
        equal(p.stderr.count("\n"), 1, p.stderr)


def own_pid_is_like_none():
    a = json.loads(ration("quota", "--json", "--pid", str(os.getpid())).stdout)
    b = json.loads(ration("quota", "--json").stdout)
    for key in ("domain", "cpus", "source", "cgroup"):
        equal(a[key], b[key], key)
    equal(a["pid"], os.getpid())


if __name__ == "__main__":
    main([json_has_the_documented_keys, v2_tree_is_read, tighter_ancestor_decides, v1_tree_is_read, without_a_quota_the_host_decides,
          malformed_file_is_named_with_its_line, malformed_file_beside_a_good_one_is_a_note, files_without_end_are_named,
          huge_numbers_are_as_long_above_as_below, absent_processes_and_roots_are_said,
          bad_options_are_refused, own_pid_is_like_none])
