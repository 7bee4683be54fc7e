"""Processes on this machine: started, waited for without using a core, and ended with whoever started them.

Some start an interpreter of their own. Others, of which a sweep has hundreds, fork from a process that has imported
torch already (``bench.task.forker``): as much of a fresh process, in a tenth of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..task.protocol import Request

CAN_FORK = sys.platform == "linux"  # elsewhere system libraries start threads that do not survive it
TAIL = 16_000  # characters of what a process printed last, enough for what an allocator says with its stack


@dataclass(frozen=True)
class Programs:
    """The modules that are run: a worker, and what a forker loads before it serves with the last of them.

    training: what it loads besides if it forks trainings; it takes seconds, and nothing else needs it.
    """

    worker: str = "bench.task.worker"
    forked: tuple[str, ...] = ("torch._dynamo", "bench.task.worker")  # _dynamo is loaded at the first training step
    training: tuple[str, ...] = ("bench.study.training.job",)

    def loaded(self, request: Request) -> tuple[str, ...]:
        """What the forker for a request loads."""
        return (*(self.training if request.kind == "training" else ()), *self.forked)


@dataclass
class _Forker:
    """The near end of a ``bench.task.forker``."""

    process: subprocess.Popen[bytes]
    threads: int
    modules: tuple[str, ...]

    def order(self, request: Request, reply: Path, log: Path) -> int | None:
        """The exit code of a process forked for this request; None if the forker itself has ended.

        Raises TimeoutExpired, after which it cannot be used again: the process that hangs is still its child.
        """
        order = {"reply": str(reply), "log": str(log), "request": request.model_dump(mode="json")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: there will be no answer
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        if not _readable(self.process.stdout.fileno(), request.protocol.timeout):
            raise subprocess.TimeoutExpired("bench.task.forker", request.protocol.timeout)
        answer = self.process.stdout.readline()
        return int(answer) if answer.endswith(b"\n") else None


@dataclass
class Worker:
    """Starts worker processes, from any thread."""

    programs: Programs = field(default_factory=Programs)
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    idle: list[_Forker] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def stop(self) -> None:
        """End all processes at once, and start no more: none may outlive a run."""
        with self.lock:
            self.stopped = True
            self.idle.clear()
            for process in list(self.running):
                _kill(process)

    def rest(self) -> None:
        """End the forkers that serve nobody now; the next order of theirs starts another."""
        with self.lock:
            idle, self.idle = self.idle, []
        for forker in idle:
            self._end(forker.process)

    def fresh(self, request: Request, reply: Path, log: Path) -> int:
        """The exit code of a worker in an interpreter of its own; TimeoutExpired after the protocol's timeout."""
        line, timeout = request.model_dump_json(), request.protocol.timeout
        return self.run([self.programs.worker, str(reply)], line, request.threads, timeout, log)

    def run(self, args: list[str], line: str, threads: int, timeout: float | None, log: Path) -> int:
        """The exit code of a fresh ``python -m args`` that is given ``line``; TimeoutExpired after ``timeout`` s.

        Its standard input stays open while we live, and it ends when we do.
        """
        with log.open("wb") as output:
            process = self._start(args, threads, output, output)
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code says so
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
            return _wait(process, timeout)
        finally:
            self._end(process)  # a hang, or Ctrl-C here; nothing if it has ended

    @contextlib.contextmanager
    def beside(self, args: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A ``python -m args`` that runs until the block ends, or until we do."""
        with log.open("wb") as output:
            process = self._start(args, 1, output, output)
        try:
            yield process
        finally:
            self._end(process)

    def fork(self, request: Request, reply: Path, log: Path) -> int:
        """The exit code of a process forked for this request; a forker that dies or hangs is not used again."""
        wanted = request.threads, self.programs.loaded(request)
        with self.lock:
            own = next((forker for forker in self.idle if (forker.threads, forker.modules) == wanted), None)
            if own:
                self.idle.remove(own)
        if own is None:
            with log.open("wb") as output:  # what keeps it from starting is in the first task's log
                process = self._start(["bench.task.forker", *wanted[1]], request.threads, subprocess.PIPE, output)
            own = _Forker(process, *wanted)
        code = None
        try:
            code = own.order(request, reply, log)
        finally:
            if code is None:
                self._end(own.process)
        if code is None:
            return own.process.returncode or 1  # no order is unfinished when a forker ends in order
        with self.lock:
            self.idle.append(own)
        return code

    def _start(self, args: list[str], threads: int, out: IO[bytes] | int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with self.lock:
            if self.stopped:
                raise RuntimeError("no process is started after stop()")
            process = subprocess.Popen(
                [sys.executable, "-m", *args],
                stdin=subprocess.PIPE, stdout=out, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
            self.running.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _kill(process)
        process.wait()
        with self.lock:
            self.running.discard(process)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> int:
    """The exit code; TimeoutExpired after ``timeout`` seconds. Whatever it has started ends with it.

    Where the kernel tells when a process ends (Linux), nothing polls for that beside what is timed.
    """
    try:
        file = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return process.wait(timeout)
    try:
        if not _readable(file, timeout):
            raise subprocess.TimeoutExpired(process.args, timeout or 0.0)
    finally:
        os.close(file)
    _kill(process)  # what it has started: it keeps its number, and its group, until it is waited for
    return process.wait()


def _readable(file: int, timeout: float | None) -> bool:
    """Wait until there is something to read; False after ``timeout`` seconds."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(None if timeout is None else 1000 * timeout))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it forked: they are a group of their own."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def tail(log: Path) -> str:
    """What a process said last; empty if it said nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def last_line(log: Path) -> str:
    """What a process said last, in words."""
    said = tail(log)
    return f"its last line: {said.splitlines()[-1].strip()};" if said else "it printed nothing;"
