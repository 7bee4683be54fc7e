"""Fresh processes without a fresh import: ``python -m bench.task.forker MODULES…`` loads them, forks for each task.

    standard input     an order a line: {"reply": path, "log": path, "request": a protocol.Request}
    standard output    the exit code of each order's process, a line

The last of the modules serves the orders: the worker; the others are loaded for the children. A child is as
good as a new process for whatever is counted: nothing of torch has been called before the fork, so no thread runs, no
tensor lives and no cache is filled, and what a child does ends with it. It is not for timing: forked processes share
the places of code and data in memory, and the differences between processes are what the repetitions of a timing task
are there to see.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from .parent import follow_parent


def main(modules: list[str]) -> None:
    """Serve orders, one at a time, until standard input ends: when whoever started us does."""
    *_, worker = map(importlib.import_module, modules)
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _serve(order, worker)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the other end of the pipe reads it


def _serve(order: dict[str, Any], worker: ModuleType) -> None:
    """What the forked process does; it never returns into the loop above."""
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)
        threading.Thread(target=follow_parent, daemon=True).start()
        code = worker.main(json.dumps(order["request"]), Path(order["reply"]))
    except BaseException:  # noqa: BLE001 - this process ends here, whatever happened, and its log says why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
