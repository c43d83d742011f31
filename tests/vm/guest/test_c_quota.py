# SPDX-License-Identifier: Apache-2.0
"""systemd's quotas and the daemon: services, slices, changes while they run, weights, strangers, users; and what programs count."""
import os
import signal
import subprocess
import time

from guestlib import PROBE, Service, ask, attached, case, cgroup_of, equal, main, out, pool, prop, read, saw, sh, until, write

# Computes on two threads for as long as it is let.
PIGZ = "/bin/sh -c 'exec pigz -p 2 </dev/zero >/dev/null'"


def rate(domain, uid=0):
    """Of the pool of that user in a domain, in CPUs; None: its gate is open."""
    p = next((p for p in pool(domain) if p["uid"] == uid), None)
    assert p, f"no pool {domain}, uid {uid}"
    return p["rate"]


@case
def quota_of_a_service():
    for percent, cpus, slots in (("50%", 0.5, 1), ("100%", 1.0, 1), ("150%", 1.5, 2)):
        with Service("quota", PIGZ, CPUQuota=percent) as s:
            until("it is attached", lambda: attached(s.pid))
            q = ask("quota", "--pid", s.pid)
            equal((q["cgroup_version"], q["domain"], q["cpus"], q["slots"], q["exact"], q["problem"]),
                  (2, f"/system.slice/{s.name}", cpus, slots, True, None))
            equal(q["source"], f"/sys/fs/cgroup/system.slice/{s.name}/cpu.max")
            until("the pool has it", lambda: abs(rate(q["domain"]) - cpus * 0.98) < 0.02)
            saw(f"{percent}: {q['cpus']} CPUs, rate {rate(q['domain'])}, {attached(s.pid)['rung']}")


@case
def quota_is_used_without_throttling():
    with Service("used", PIGZ, CPUQuota="100%") as s:
        until("it is attached", lambda: attached(s.pid))
        d = cgroup_of(s.pid)[1]

        def stat():
            return {k: int(v) for k, v in (line.split() for line in read(d, "cpu.stat").splitlines())}

        time.sleep(3)
        a, t = stat(), time.monotonic()
        time.sleep(10)
        b, dt = stat(), time.monotonic() - t
        saw(f"{(b['usage_usec'] - a['usage_usec']) / dt / 1e6:.2f} CPUs used of 1, "
            f"{b['nr_throttled'] - a['nr_throttled']} of {b['nr_periods'] - a['nr_periods']} periods throttled")


@case
def tighter_slice_above_counts():
    write("/run/systemd/system/rationtest.slice", "[Slice]\nCPUQuota=50%\n")
    with Service("in", PIGZ, Slice="rationtest.slice") as s:
        own = f"/rationtest.slice/{s.name}"
        until("it is attached", lambda: attached(s.pid))
        q = ask("quota", "--pid", s.pid)
        equal((q["domain"], q["cpus"], attached(s.pid)["domain"]), ("/rationtest.slice", 0.5, "/rationtest.slice"))
        s.set("CPUQuota=100%")
        until("it has a domain of its own, in what the slice has", lambda: attached(s.pid)["domain"] == own and abs(rate(own) - 0.49) < 0.02)
        equal(ask("quota", "--pid", s.pid)["cpus"], 0.5)
        sh("systemctl set-property --runtime rationtest.slice CPUQuota=150%")
        s.set("CPUQuota=40%")
        until("now its own is the tighter", lambda: abs(rate(own) - 0.39) < 0.02)
        saw(f"50 %: rate 0.49; slice 150 %, own 40 %: {rate(own)}")
    sh("systemctl stop rationtest.slice; rm -rf /run/systemd/system/rationtest.slice /run/systemd/system.control/rationtest.slice.d; systemctl daemon-reload")


@case
def a_new_quota_arrives_in_the_running_process():
    with Service("live", PIGZ, CPUQuota="50%") as s:
        until("it is attached", lambda: attached(s.pid))
        domain, took = f"/system.slice/{s.name}", []
        for percent, cpus in (("150%", 1.5), ("30%", 0.3), ("100%", 1.0)):
            began = time.monotonic()
            s.set(f"CPUQuota={percent}")
            set_after = time.monotonic() - began
            until("the pool has it", lambda: abs(rate(domain) - cpus * 0.98) < 0.02)
            took.append(f"{percent}: systemctl took {set_after:.2f} s, in the pool's page after {time.monotonic() - began:.2f} s")
        s.set("CPUQuota=")
        until("without a quota it is the host's", lambda: attached(s.pid)["domain"] != domain or rate(domain) is None)
        s.set("CPUQuota=50%")
        until("with one again it is its own", lambda: attached(s.pid)["domain"] == domain and abs(rate(domain) - 0.49) < 0.02)
        saw("; ".join(took))


@case
def a_new_quota_is_seen_by_a_program_that_counts():
    with Service("follow", f"{PROBE} follow 1 2", CPUQuota="50%", RemainAfterExit="yes") as s:
        until("it has seen one CPU", lambda: "ready" in s.log())
        began = time.monotonic()
        s.set("CPUQuota=150%")
        until("it has seen two in all ways that there are", lambda: prop(s.name, "SubState") in ("exited", "failed"))
        saw(f"{time.monotonic() - began:.2f} s after systemctl set-property began")
        equal((prop(s.name, "SubState"), prop(s.name, "ExecMainStatus")), ("exited", "0"))


@case
def weights_share_the_cpus():
    cpus = os.cpu_count()
    with Service("w1", PIGZ, CPUWeight=100) as a, Service("w3", PIGZ, CPUWeight=300) as b:
        until("both are attached", lambda: attached(a.pid) and attached(b.pid))
        assert "max" in read(cgroup_of(a.pid)[1], "cpu.max")
        domains = [f"/system.slice/{s.name}" for s in (a, b)]

        def shares():
            pools = ask("pool")  # one answer: between two the daemon may divide anew
            rates = [next(p["rate"] for p in pools if p["domain"] == d) for d in domains]
            return all(rates) and abs(rates[1] / rates[0] - 3) < 0.3 and rates
        rates = until("they have a quarter and three of the CPUs", shares)
        saw(f"of {cpus} CPUs: {rates}")
        assert sum(rates) <= cpus
        os.kill(b.pid, signal.SIGSTOP)

        def borrows():
            r = rate(domains[0])
            return r is None or r > 0.9 * cpus
        until("what is idle may be borrowed", borrows)


@case
def a_stranger_is_taken_off():
    with Service("strange", PIGZ, CPUQuota="100%") as s:
        until("it is attached", lambda: attached(s.pid))
        domain = f"/system.slice/{s.name}"
        p = subprocess.Popen(["sh", "-c", f"echo $$ >/sys/fs/cgroup{domain}/cgroup.procs; while :; do :; done"])
        try:
            seen = until("the stranger is seen", lambda: next((q["strangers_cpus"] for q in pool(domain) if q["strangers_cpus"] > 0.2), 0))
            saw(f"{seen:.2f} CPUs of strangers")
            p.send_signal(signal.SIGSTOP)
            until("and that it stopped", lambda: pool(domain)[0]["strangers_cpus"] < 0.05)
        finally:
            p.kill()
            p.wait()


@case
def users_of_a_slice_share_it():
    write("/run/systemd/system/rationtest.slice", "[Slice]\nCPUQuota=100%\n")
    with Service("u1", PIGZ, Slice="rationtest.slice", User="tester") as a, Service("u2", PIGZ, Slice="rationtest.slice", User="games") as b:
        until("both are attached", lambda: attached(a.pid) and attached(b.pid))
        uids = [attached(s.pid)["uid"] for s in (a, b)]
        assert uids[0] != uids[1]

        def halves():
            rates = [rate("/rationtest.slice", u) for u in uids]
            return all(rates) and all(abs(r - 0.49) < 0.05 for r in rates) and rates
        saw(f"uids {uids}: {until('each has a half', halves)}")
        os.kill(b.pid, signal.SIGSTOP)
        until("one alone has all", lambda: rate("/rationtest.slice", uids[0]) > 0.9)
    sh("systemctl stop rationtest.slice; rm -f /run/systemd/system/rationtest.slice; systemctl daemon-reload")


COUNT = ("nproc; getconf _NPROCESSORS_ONLN; python3 -c 'import os; print(os.cpu_count())'; python3 -c 'import os; print(len(os.sched_getaffinity(0)))'; "
         "grep -c ^processor /proc/cpuinfo; printf 'all: $(shell nproc)\\n$(shell nproc):\\n\\t@echo $@\\n' | make -s -f -")


@case
def programs_count_right():
    for percent, want in (("50%", "1"), ("100%", "1"), ("150%", "2")):
        write("/tmp/count.sh", COUNT)
        with Service("count", "/bin/sh /tmp/count.sh", CPUQuota=percent, Type="oneshot") as s:
            got = until("it has counted", lambda: s.log().split())
        equal(got, [want] * 6, percent)
        saw(f"{percent}: {' '.join(got)}")
    equal(out(["ration", "run", "--cpus", "1", "--", "sh", "-c", COUNT]).split(), ["1"] * 6, "ration run --cpus 1")


@case
def all_ways_of_counting_agree():
    with Service("check", f"{PROBE} check 1", CPUQuota="50%", Type="oneshot") as s:
        log = until("it has said all", s.log)
        equal(prop(s.name, "Result"), "success")
        saw(f"{len([line for line in log.splitlines() if line.startswith('ok')])} ways")
        assert "not ok" not in log, log


HARDENED = {
    "DynamicUser": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "PrivateNetwork": "yes", "PrivateIPC": "yes", "PrivateUsers": "yes", "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes", "ProtectControlGroups": "yes", "ProtectProc": "invisible", "ProcSubset": "pid", "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes", "LockPersonality": "yes", "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native", "UMask": "0077",
    "SystemCallFilter": "@system-service",
}


@case
def hardened_services_run():
    """As strict as systemd has it, and system calls beyond @system-service kill: what the library does must be within that."""
    for name, more in (("", {}), (" without AF_UNIX", {"RestrictAddressFamilies": "AF_INET"})):
        with Service("hard", PIGZ, CPUQuota="50%", **HARDENED, **more) as s:
            time.sleep(3)
            equal((prop(s.name, "ActiveState"), prop(s.name, "Result")), ("active", "success"), s.log())
            if not more:
                until("it is attached", lambda: attached(s.pid))
            row = attached(s.pid)
            saw(f"{prop(s.name, 'ActiveState')}{name}, {row['rung'] if row else 'standalone'}")
        with Service("hard", "/bin/nproc", CPUQuota="50%", Type="oneshot", **HARDENED, **more) as s:
            equal((until("it has counted", s.log), prop(s.name, "Result")), ("1", "success"))


main()
