"""Signals end a program within moments, whatever it does, and nothing takes effect afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

BEGIN = """
import hashlib, pathlib, sys, threading, time
from mambaic.imaging import atomic_files
from mambaic_cli import main, signals
place = pathlib.Path(sys.argv[1])
signals.end_on_signals()
"""
# a call that comes to no other instruction of Python for minutes
COMPUTE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
COMPILED = "print('ready', flush=True); " + COMPUTE
# outputs that are being written by worker threads, one of which has its turn to be renamed
WRITING = """
def late(path, data):
    path.write_bytes(data)
    written.wait()
    time.sleep(0.3)
written = threading.Barrier(4)
atomic_files._write_through = late
for i in range(3):
    source = place / f"{i}.png"
    source.write_bytes(b"picture")
    found = atomic_files.SourceFile.of(source)
    threading.Thread(
        target=lambda i=i, found=found: atomic_files.Outputs().write(
            place / f"{i}.mbic", b"coded", replaces=found
        )
    ).start()
written.wait()
print("ready", flush=True)
"""
# the gate is held by a call that never returns
HANGING = """
def hang():
    with atomic_files.taking_effect():
        print("ready", flush=True)
        time.sleep(60)
threading.Thread(target=hang, daemon=True).start()
"""
OWN_HANDLER = """
import signal
stop = threading.Event()
signal.signal(signal.SIGINT, lambda number, frame: stop.set())
print("ready", flush=True)
while not stop.is_set():
    time.sleep(0.01)
time.sleep(0.2)
print("stopped by itself", flush=True)
"""


def start(code: str, *arguments: object, ignoring: tuple[int, ...] = ()) -> subprocess.Popen:
    def as_from_a_shell() -> None:
        # tests in the background of a shell inherit an ignored SIGINT, under nohup a SIGHUP
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number in ignoring:
            signal.signal(number, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_from_a_shell,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_ends_a_program_in_compiled_code(number, code, tmp_path):
    process = start(COMPILED, tmp_path)
    sent = time.monotonic()
    process.send_signal(number)
    process.send_signal(number)  # an impatient second one
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - sent < 2
    assert process.returncode == code
    assert err == "mambaic: interrupted\n"


def test_nothing_is_written_or_deleted_after_a_signal(tmp_path):
    process = start(WRITING + COMPUTE, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def test_output_that_hangs_is_not_waited_for(tmp_path):
    process = start(HANGING + COMPUTE, tmp_path)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - sent < 3
    assert process.returncode == 130


def test_full_pipe_of_messages_is_not_waited_for(tmp_path):
    process = start(
        "import os; os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, bytes(65536))\nexcept BlockingIOError: pass\n"
        "os.set_blocking(2, True)\n" + COMPILED,
        tmp_path,
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    process.communicate()


def test_signals_that_were_ignored_at_the_start_stay_so(tmp_path):
    process = start(
        "print('ready', flush=True); time.sleep(0.5)", tmp_path, ignoring=(signal.SIGHUP,)
    )
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_handler_of_a_command_has_precedence(tmp_path):
    process = start(OWN_HANDLER, tmp_path)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out == "stopped by itself\n"


def test_signal_of_a_forked_child_is_its_own(tmp_path):
    process = start(
        "import os, signal\n"
        "child = os.fork()\n"
        "if not child: time.sleep(60)\n"
        "print('ready', flush=True)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "time.sleep(0.3)\n"
        "sys.exit(os.WTERMSIG(status))",
        tmp_path,
    )
    process.communicate(timeout=60)
    assert process.returncode == signal.SIGTERM
