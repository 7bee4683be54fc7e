"""The breadcrumb: what a process is at, in a file that outlives it, so that a death or a hang has a name.

A worker drops one before each step of each case. It is a record of fixed length, written by a single system call into
the page cache: whatever ends the process, even SIGKILL, leaves the last one whole, and dropping one takes about a
microsecond, outside of whatever is timed.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_LENGTH = 128  # bytes of a record

_file: int | None = None
_at = ""


def start(path: Path) -> None:
    """Drop this process's crumbs into ``path`` from now on; before that they go nowhere."""
    global _file
    _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
    os.pwrite(_file, b" " * _LENGTH, 0)  # a disk without room is found now: later ones take the place of this


def drop(case_id: str, step: str) -> None:
    """This process now does ``step`` with a case."""
    global _at
    _at = case_id
    if _file is not None:
        os.pwrite(_file, _record(case_id, step), 0)


def case_id() -> str:
    """The case of this process's last crumb; empty before any."""
    return _at


@cache
def _record(case_id: str, step: str) -> bytes:
    return f"{case_id} {step}\n".encode()[:_LENGTH].ljust(_LENGTH)


def last(path: Path) -> tuple[str, str] | None:
    """The case and the step that a process dropped last; None if it ended before any."""
    try:
        words = path.read_bytes().decode(errors="replace").split()
    except FileNotFoundError:
        return None
    return (words[0], " ".join(words[1:])) if len(words) > 1 else None


def beside(reply: Path) -> Path:
    """Where the process that writes ``reply`` drops its crumbs."""
    return reply.with_suffix(".crumb")
