"""Fresh processes without a fresh import: ``python -m bench.forker`` loads torch once and forks for each task.

    standard input     an order a line: {"reply": path, "log": path, "request": a protocol.Request}
    standard output    the exit code of each order's process, a line

A child is as good as a new process for whatever is counted: nothing of torch has been called before the fork, so no
thread runs, no tensor lives and no cache is filled, and what a child does ends with it. It is not for timing: forked
processes share the places of code and data in memory, and the differences between processes are what the repetitions
of a timing task are there to see.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401 - loaded for the children: each would load it at its first training step

from . import worker


def main() -> None:
    """Serve orders, one at a time, until standard input ends: when whoever started us does."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        if order["request"]["kind"] == "training":
            from .study.training import job  # noqa: F401 - for this child and all that follow
        child = os.fork()
        if child == 0:
            _serve(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the other end of the pipe reads it


def _serve(order: dict[str, Any]) -> None:
    """What the forked process does; it never returns into the loop above."""
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)
        threading.Thread(target=worker.follow_parent, daemon=True).start()
        worker.main(json.dumps(order["request"]), Path(order["reply"]))
        code = 0
    except BaseException:  # noqa: BLE001 - this process ends here, whatever happened, and its log says why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
