#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 300
"""What listens on the socket is not the daemon that the shim expects: the program runs, and ends as it should."""
import mmap
import os
import socket
import struct

import faults
from faults import FakeDaemon, HDR, HELLO_BODY, Layout, WELCOME, WELCOME_BODY, Worker, b, case, frame, send_with_fds, wait_for

L = Layout()
PAGE_SIZE = L.size


def welcome(flags=0, member=0, gen=1, page_size=PAGE_SIZE, m_slots=0, ring_size=0):
    return WELCOME_BODY.pack(flags, member, gen, page_size, m_slots, ring_size, b"0.0.fake")


def memfd(content=b"", size=0):
    fd = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, max(size, len(content)))
    os.pwrite(fd, content, 0)
    return fd


def page_header(magic=0x4C4F4F504E544152, version=1, nslots=1, rate=1000000, flags=1):
    return (struct.pack("<QII", magic, version, PAGE_SIZE).ljust(L.owner, b"\0")
            + struct.pack("<8I", flags, nslots, 1, 1, rate, 10000, 3000, 1))


def run_against(serve, type_=socket.SOCK_SEQPACKET, must_meet=True):
    """Programs in a quota and without one; several short ones, and one that lives for a while."""
    fake = FakeDaemon(serve, type_)
    with b.Group(1.0, "faults") as g:
        workers = [Worker(fake, g, rounds=2000, pause_ms=1), Worker(fake, None, rounds=2000), Worker(fake, g, rounds=10), Worker(fake, g, rounds=500, threads=1)]
        for w in workers:
            w.check(still=40)
    assert not must_meet or fake.visitors() > 0, "the shim never came: this tests nothing"


def answer(data, fds=()):
    def serve(c):
        c.recv(2048)
        send_with_fds(c, data, list(fds)) if fds else c.send(data)
    return serve


@case
def never_answers():
    run_against(lambda c: None)


@case
def closes_at_once():
    run_against(lambda c: c.close())


@case
def answers_rubbish():
    run_against(answer(os.urandom(700)))


@case
def answers_an_empty_packet_and_then_too_much():
    def serve(c):
        c.recv(2048)
        c.send(b"")
        c.send(b"x" * 60000)
    run_against(serve)


@case
def another_version():
    run_against(answer(frame(WELCOME, welcome(), version=99)))


@case
def wrong_magic():
    run_against(answer(frame(WELCOME, welcome(), magic=0x12345678)))


@case
def an_error_instead_of_a_welcome():
    run_against(answer(frame(66, struct.pack("<iI248s", 13, 0, b"go away"))))


@case
def an_error_text_without_an_end():
    run_against(answer(frame(66, struct.pack("<iI248s", 13, 0, b"x" * 248))))


@case
def a_welcome_without_descriptors():
    run_against(answer(frame(WELCOME, welcome(flags=1, m_slots=512, ring_size=65536))))


def run_with_page(header=None, fds=1, slots=None, **fields):
    """A new page for each test, with that welcome."""
    fd = memfd(page_header() if header is None else header, PAGE_SIZE)
    if slots:
        with mmap.mmap(fd, PAGE_SIZE) as m:
            for i in range(256):
                m[L.slots + i * 64:L.slots + i * 64 + 8] = struct.pack("<Q", slots(i))
    try:
        run_against(answer(frame(WELCOME, welcome(**fields)), [fd] * fds))
    finally:
        os.close(fd)


@case
def a_welcome_with_absurd_members():
    run_with_page(member=0xFFFFFFFF)
    run_with_page(gen=0)


@case
def a_welcome_with_absurd_sizes():
    run_with_page(page_size=0)
    run_with_page(page_size=0xFFFFFFFF)


@case
def a_welcome_with_absurd_flags():
    run_with_page(fds=3, flags=0xFFFFFFFF, m_slots=0xFFFFFFFF, ring_size=0xFFFFFFFF)
    run_with_page(flags=2)


@case
def an_m_map_of_an_absurd_size():
    run_with_page(fds=3, flags=1, m_slots=3, ring_size=5000)


@case
def an_m_map_that_no_bpf_writes_to():
    """It is mapped as asked, but nobody marks a block there."""
    run_with_page(fds=3, flags=1, m_slots=64, ring_size=4096)


@case
def four_programs_that_are_all_told_to_be_the_same_member():
    run_with_page(member=5)


@case
def a_page_that_is_a_pipe_or_a_directory():
    r, w = os.pipe()
    d = os.open("/", os.O_RDONLY)
    run_against(answer(frame(WELCOME, welcome()), [r]))
    run_against(answer(frame(WELCOME, welcome()), [d]))
    run_against(answer(frame(WELCOME, welcome(flags=1, m_slots=512, ring_size=65536)), [d, r, w]))


@case
def a_page_that_is_too_small():
    run_against(answer(frame(WELCOME, welcome()), [memfd(page_header(), 4096)]))


@case
def a_page_of_another_layout():
    run_with_page(page_header(magic=1))
    run_with_page(page_header(version=77))
    run_with_page(bytes(64))


@case
def a_page_with_absurd_slots():
    run_with_page(page_header(nslots=0))
    run_with_page(page_header(nslots=0xFFFFFFFF))


@case
def a_page_with_an_absurd_rate():
    run_with_page(page_header(rate=1))
    run_with_page(page_header(rate=0xFFFFFFFF))


@case
def a_page_with_absurd_flags():
    run_with_page(page_header(flags=0xFFFFFFFF))


@case
def a_page_whose_slots_are_held_by_nobody():
    """Every slot looks taken, by members that don't exist, and no owner ever frees one."""
    run_with_page(slots=lambda i: (7 << 32) | (i + 500))


@case
def a_page_that_shrinks_under_the_program():
    """A page that is not sealed must not be trusted: cut short, it would kill the program by SIGBUS."""
    fd = memfd(page_header(), PAGE_SIZE)

    def serve(c):
        import time
        c.recv(2048)
        send_with_fds(c, frame(WELCOME, welcome()), [fd])
        time.sleep(0.05)
        os.ftruncate(fd, 0)
        time.sleep(0.3)
        os.ftruncate(fd, PAGE_SIZE)
        os.pwrite(fd, page_header(), 0)

    run_against(serve)


@case
def a_stream_socket():
    run_against(lambda c: c.send(b"SSH-2.0-OpenSSH_9.2\r\n"), socket.SOCK_STREAM, must_meet=False)


@case
def floods_the_program_with_unasked_frames():
    fd = memfd(page_header(), PAGE_SIZE)

    def serve(c):
        c.recv(2048)
        send_with_fds(c, frame(WELCOME, welcome()), [fd])
        c.settimeout(0.5)
        for i in range(3000):
            c.send(frame(73 if i % 2 else 72, b"", serial=0))

    run_against(serve)


@case
def a_socket_path_that_is_a_file_a_directory_or_too_long():
    d = b.temp_dir()
    b.write_text(os.path.join(d, "file"), "x")
    for path in (os.path.join(d, "file"), d, "/" + "x" * 300, "", "relative/path", "/proc/self/mem"):
        w = Worker(None, None, rounds=2000, env={"RATION_SOCKET": path})
        w.check()


@case
def the_real_daemon_takes_no_harm_from_strange_clients():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        w = Worker(daemon, g, rounds=30000, pause_ms=2)
        faults.wait_attached(daemon, w)
        hello = HELLO_BODY.pack(2, 64, 0, 0, b"strange")
        junk = [b"", b"x", os.urandom(15), os.urandom(700), b"y" * 5000, frame(1, hello, version=2), frame(1, hello, magic=1), frame(1, hello[:-1]),
                frame(1, hello + b"z"), frame(250, b""), frame(WELCOME, welcome()), frame(1, HELLO_BODY.pack(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, b"n" * 64)),
                HDR.pack(faults.MAGIC, 1, 1, 0xFFFFFFFF, 1) + hello, frame(2, b"\xff" * 8), frame(3, b""), frame(4, b"\xff" * 8)]
        for data in junk:
            for fds in ([], [0], [0, 1, 2], [0] * 20):
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                s.settimeout(5)
                s.connect(daemon.socket)
                try:
                    send_with_fds(s, data, fds) if fds else s.send(data)
                except OSError:
                    pass  # hung up on, which is an answer
                s.close()
        assert daemon.process.poll() is None, "the daemon died"
        wait_for("the daemon answers", lambda: daemon.answers())
        wait_for("only the worker is attached", lambda: faults.attached(daemon) <= {w.pid})
        w.check()


faults.main()
