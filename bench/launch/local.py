"""Workers on this machine: a fresh process for each task, waited for without using a core."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ..protocol import Reply, Request, Result, Status


@dataclass
class Worker:
    """Starts worker processes; logs: the folder for what they print."""

    logs: Path
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def measure(self, task_id: str, request: Request) -> Reply:
        """The reply of one fresh process; if it dies or hangs, one that says so for each case."""
        log = self.logs / f"{task_id}.log"
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            reply = Path(folder) / "reply.json"
            try:
                code = self._run(request, reply, log)
            except subprocess.TimeoutExpired:
                return _all(request, "timeout", f"no result after {request.protocol.timeout:g} s; see {log}")
            if code != 0:
                return _all(request, "crashed", f"it ended with {_ending(code)}; {_last_line(log)} see {log}")
            try:
                result = Reply.model_validate_json(reply.read_text(encoding="utf-8"))
            except (OSError, ValidationError):
                return _all(request, "crashed", f"the process wrote no sound reply; see {log}")
        if all(r.status == "ok" for r in result.results):
            log.unlink()
        return result

    def stop(self) -> None:
        """End all workers at once: no worker may outlive a run."""
        for process in list(self.running):
            process.kill()

    def _run(self, request: Request, reply: Path, log: Path) -> int:
        """The exit code of a worker. Its standard input stays open while we live, and it ends when we do."""
        threads = str(request.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", str(reply)],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip
        assert process.stdin is not None
        self.running.add(process)
        try:
            with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code says so
                process.stdin.write(request.model_dump_json().encode() + b"\n")
                process.stdin.flush()
            return process.wait(timeout=request.protocol.timeout)
        finally:
            process.kill()  # a hang, or Ctrl-C here; nothing if it has ended
            process.wait()
            self.running.discard(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"its last line: {lines[-1].strip()};" if lines else "it printed nothing;"


def _all(request: Request, status: Status, reason: str) -> Reply:
    return Reply(results=[Result(case_id=case.id, status=status, reason=reason) for case in request.case_list()])
