"""Workers on this machine: a fresh process for each task, waited for without using a core."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..protocol import Reply, Request, Result, Status


@dataclass(frozen=True)
class Worker:
    """Starts worker processes; logs: the folder for what they print."""

    logs: Path

    def measure(self, task_id: str, request: Request) -> Reply:
        """The reply of one fresh process; if it dies or hangs, one that says so for each case."""
        log = self.logs / f"{task_id}.log"
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            reply = Path(folder) / "reply.json"
            try:
                code = _run(request, reply, log)
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


def _run(request: Request, reply: Path, log: Path) -> int:
    threads = str(request.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(reply)],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            process.communicate(request.model_dump_json().encode(), timeout=request.protocol.timeout)
        except BaseException:  # a hang, or Ctrl-C here: no worker may outlive its parent
            process.kill()
            process.wait()
            raise
    return process.returncode


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"its last line: {lines[-1].strip()};" if lines else "it printed nothing;"


def _all(request: Request, status: Status, reason: str) -> Reply:
    return Reply(results=[Result(case_id=case.id, status=status, reason=reason) for case in request.case_list()])
