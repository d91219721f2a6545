"""Ctrl-C, SIGTERM and SIGHUP end the program within moments, whatever it is doing.

Python runs a handler in the main thread, between two of its instructions: compiled code there, or
worker threads that it waits for, put it off for minutes. So the signal's number goes through a
socket to a thread that waits for nothing else. It closes the gate of outputs, removes what is
unfinished, and ends the process without waiting for the others.

A command that puts a handler of its own in place (``train`` stops after a step) is left to it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from types import FrameType
from typing import NoReturn

ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
OUTPUTS = "mambaic.imaging.atomic_files"
WAIT_FOR_OUTPUT_S = 1.0
MESSAGE = b"mambaic: interrupted\n"


def end_on_signals() -> None:
    """From the main thread of a program. Signals that it was started to ignore (nohup) stay so."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _noticed)
    # the thread keeps both ends open
    threading.Thread(target=_watch, args=(receiver, sender), daemon=True, name="signals").start()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_as_at_start)


def exit_code(number: int) -> int:
    """As shells report the end by a signal: 130 of Ctrl-C, 143 of SIGTERM."""
    return 128 + number


def _noticed(number: int, frame: FrameType | None) -> None:
    """The handler: that it is one of Python's makes the system's write to the socket."""


def _watch(receiver: socket.socket, sender: socket.socket) -> None:
    while True:
        for number in receiver.recv(64):
            if signal.getsignal(number) is _noticed:
                _end(number)


def _end(number: int) -> NoReturn:
    outputs = sys.modules.get(OUTPUTS)  # a command that has not come to it has written nothing
    if close := getattr(outputs, "end_all", None):
        close(WAIT_FOR_OUTPUT_S)
    try:
        if _takes_more(2):
            # below the ^C of a terminal, or its bar
            os.write(2, b"\n" * os.isatty(2) + MESSAGE)
    finally:
        os._exit(exit_code(number))


def _takes_more(handle: int) -> bool:
    """Whether a write to a pipe would return at once. Elsewhere it does."""
    try:
        return bool(select.select([], [handle], [], 0)[1])
    except (OSError, ValueError):  # Windows knows it of sockets alone
        return True


_held = threading.local()


def _hold() -> None:
    """Before a fork: a signal that reaches the child before ``_as_at_start`` waits for it. It would
    go through the socket and end the parent."""
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _as_at_start() -> None:
    """In a forked child: its signals are not those of its parent, whose socket it has."""
    signal.set_wakeup_fd(-1)
    for number in ENDING:
        if signal.getsignal(number) is _noticed:
            by_default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, by_default)
    _release()
