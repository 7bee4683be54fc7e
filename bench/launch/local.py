"""Workers on this machine: a fresh process for each task, waited for without using a core.

A timing task starts an interpreter of its own. Static and training tasks, of which a sweep has hundreds, fork from a
process that has imported torch already (``bench.forker``): as much of a fresh process, in a tenth of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ..protocol import Reply, Request, Result, Status

_CAN_FORK = sys.platform == "linux"  # elsewhere system libraries start threads that do not survive it


@dataclass
class _Forker:
    """The near end of a ``bench.forker``."""

    process: subprocess.Popen[bytes]
    threads: int

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
        ready, _, _ = select.select([self.process.stdout], [], [], request.protocol.timeout)
        if not ready:
            raise subprocess.TimeoutExpired("bench.forker", request.protocol.timeout)
        answer = self.process.stdout.readline()
        return int(answer) if answer else None


@dataclass
class Worker:
    """Starts worker processes; logs: the folder for what they print."""

    logs: Path
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    idle: list[_Forker] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def measure(self, task_id: str, request: Request) -> Reply:
        """The reply of one fresh process; if it dies or hangs, one that says so for each case."""
        log = self.logs / f"{task_id}.log"
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            reply = Path(folder) / "reply.json"
            run = self._fork if request.kind != "timing" and _CAN_FORK else self._run
            try:
                code = run(request, reply, log)
            except subprocess.TimeoutExpired:
                return _all(request, "timeout", f"no result after {request.protocol.timeout:g} s; see {log}")
            if code != 0:
                return _all(request, "crashed", f"it ended with {ending(code)}; {last_line(log)} see {log}")
            try:
                result = Reply.model_validate_json(reply.read_text(encoding="utf-8"))
            except (OSError, ValidationError):
                return _all(request, "crashed", f"the process wrote no sound reply; see {log}")
        if all(r.status == "ok" for r in result.results):
            log.unlink()
        return result

    def stop(self) -> None:
        """End all workers at once: no worker may outlive a run."""
        with self.lock:
            self.idle.clear()
            for process in list(self.running):
                _kill(process)

    def _run(self, request: Request, reply: Path, log: Path) -> int:
        """The exit code of a worker."""
        return self.run(
            ["bench.worker", str(reply)], request.model_dump_json(), request.threads, request.protocol.timeout, log
        )

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
            return process.wait(timeout=timeout)
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

    def _fork(self, request: Request, reply: Path, log: Path) -> int:
        """The exit code of a process forked for this request; a forker that dies or hangs is not used again."""
        with self.lock:
            own = next((forker for forker in self.idle if forker.threads == request.threads), None)
            if own:
                self.idle.remove(own)
        if own is None:
            with log.open("wb") as output:  # what keeps it from starting is in the first task's log
                process = self._start(["bench.forker"], request.threads, subprocess.PIPE, output)
            own = _Forker(process, request.threads)
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
        process = subprocess.Popen(
            [sys.executable, "-m", *args],
            stdin=subprocess.PIPE, stdout=out, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
        with self.lock:
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


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it forked: they are a group of their own."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def last_line(log: Path) -> str:
    """What a process said last, in words."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"its last line: {lines[-1].strip()};" if lines else "it printed nothing;"


def _all(request: Request, status: Status, reason: str) -> Reply:
    return Reply(results=[Result(case_id=case.id, status=status, reason=reason) for case in request.case_list()])
