"""Claims: which run works on which task, so that several runs into one folder do not measure the same thing.

    <folder>/claims/<run>.jsonl    who the run is, then a line "+task" for each claim and "-task" for each release
    <folder>/claims/<run>.lock     held for as long as the run lives

A run is alive if its lock is held: the kernel gives it back however a process ends, so a killed run's claims are free
at once. Locks of another machine cannot be seen on every shared file system, so its run is also alive if its file was
touched in the last EXPIRES seconds. Ages are differences of times that one file server gave, never of two clocks.

Whoever calls ``take``, ``release`` or ``held`` holds the folder's lock (``bench.store.folder``).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

BEAT = 15.0  # seconds between two touches
EXPIRES = 120.0  # without a touch, of a run on another machine: eight beats were missed


def machine() -> str:
    """This kernel, since it was started: whoever shares it sees the same locks, in whichever container."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()} {psutil.boot_time():.0f}"


class Claims:
    """The claims of this run and of all others in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = f"{re.sub(r'[^0-9A-Za-z-]', '-', platform.node())}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.own = folder / f"{self.run}.jsonl"
        self._life: FileLock | None = None
        self._heart: threading.Thread | None = None
        self._ended = threading.Event()

    def take(self, tasks: Sequence[str]) -> list[str]:
        """Those of ``tasks`` that no other living run holds; they are ours now."""
        if self._life is None or not self.own.exists():  # or others took us for dead, and what we held is theirs
            self._begin()
        held = self.held()
        free = [task for task in dict.fromkeys(tasks) if task not in held]
        self._note("+", free)
        return free

    def release(self, tasks: Sequence[str]) -> None:
        """Give claims back; nothing if they are not ours."""
        if self._life is not None and self.own.exists():
            self._note("-", tasks)

    def held(self) -> dict[str, str]:
        """What other living runs hold: task → run. What dead ones left behind is removed."""
        held: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            if path == self.own:
                continue
            if self._lives(path):
                held |= dict.fromkeys(_tasks(path), path.stem)
            else:
                _remove(path)
        for path in self.folder.glob("*.lock"):  # of a run that was killed as it began
            if not path.with_suffix(".jsonl").exists():
                path.unlink(missing_ok=True)
        return held

    def end(self) -> None:
        """Give everything back: this run is over."""
        self._ended.set()
        if self._life is not None:
            self.own.unlink(missing_ok=True)
            self._life.release(force=True)
            Path(self._life.lock_file).unlink(missing_ok=True)
            self._life = None

    def _begin(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if self._life is not None:
            self._life.release(force=True)
        self._life = _life_of(self.own)
        self._life.acquire(timeout=0)
        who = {"machine": machine(), "host": platform.node(), "pid": os.getpid()}
        self.own.write_text(json.dumps(who) + "\n", encoding="utf-8")
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, daemon=True, name="claims")
            self._heart.start()

    def _note(self, sign: str, tasks: Iterable[str]) -> None:
        rest = "".join(f"{sign}{task}\n" for task in tasks).encode()
        with self.own.open("ab", buffering=0) as file:
            while rest:  # a disk that fills up takes what fits, and says so at the next call
                rest = rest[file.write(rest) :]

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # gone, or the server is away: then the claims expire
                os.utime(self.own)

    def _lives(self, path: Path) -> bool:
        if path.is_symlink() or path.with_suffix(".lock").is_symlink():
            return False  # no run made these: what they lead to is neither read nor locked
        life = _life_of(path)
        try:
            life.acquire(timeout=0)
        except Timeout:
            return True
        life.release()
        return _who(path).get("machine") != machine() and self._age(path) < EXPIRES

    def _age(self, path: Path) -> float:
        """Seconds since another run touched its file, by the clock of whoever keeps the files."""
        if self.own.exists():
            os.utime(self.own)
            now = self.own.stat().st_mtime
        else:
            now = time.time()
        return now - path.stat().st_mtime


def held(folder: Path) -> set[str]:
    """The tasks that living runs have claimed, for whoever only looks: nothing is written, no lock is taken.

    A run on this machine lives if its process does, one elsewhere if its file was touched lately.
    """
    found: set[str] = set()
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError):  # it has just ended
            who = _who(path)
            here = who.get("machine") == machine() and isinstance(who.get("pid"), int)
            if psutil.pid_exists(who["pid"]) if here else time.time() - path.stat().st_mtime < EXPIRES:
                found |= {task.partition(" ")[0] for task in _tasks(path)}
    return found


def _life_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), thread_local=False)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)


def _who(path: Path) -> dict[str, Any]:
    """What a run says of itself; nothing if it was killed while it did."""
    try:
        who = json.loads(path.read_text(encoding="utf-8", errors="replace").partition("\n")[0])
    except (OSError, ValueError):
        return {}
    return who if isinstance(who, dict) else {}


def _tasks(path: Path) -> Iterator[str]:
    """What a run claimed and has not given back."""
    held: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        if line.startswith("+"):
            held[line[1:]] = None
        elif line.startswith("-"):
            held.pop(line[1:], None)
    return iter(held)
