"""The engine of this machine: every order becomes a process here, and a thread of ours waits for it."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
from pydantic import ValidationError

from ..errors import UsageError
from ..machine import env
from ..plan.case import Kind
from ..store.folder import inside
from ..task import crumb
from ..task.protocol import NO_SPACE, Reply
from . import oom
from .engine import Attempt, Crumb, Order
from .processes import CAN_FORK, Programs, Worker, tail

_WORKER_MEMORY = 3 * 2**30  # bytes that a static or training task may take: torch, a data set, a net


class Local:
    """This machine. Static and training tasks share its cores, a thread each; a timing task has it to itself.

    logs: the folder for what processes print. A GPU serves one process at a time, whatever is measured.
    """

    alone: frozenset[Kind] = frozenset({"timing"})

    def __init__(self, logs: Path, device: str, programs: Programs | None = None) -> None:
        self.logs, self.device = logs, device
        self.worker = Worker(programs or Programs())
        self._ended: SimpleQueue[Attempt | BaseException] = SimpleQueue()
        try:
            self._scratch = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        except OSError as error:
            raise UsageError(f"no folder for temporary files: {error.strerror}; make room, or set TMPDIR") from None
        free = psutil.virtual_memory().available // _WORKER_MEMORY
        self._side_by_side = max(1, min(env.identity("cpu")["cores"], free)) if device == "cpu" else 1

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def width(self, kind: Kind) -> int:
        """As many as cores and memory allow; of what needs the machine, one."""
        return 1 if kind in self.alone else self._side_by_side

    def submit(self, orders: Sequence[Order]) -> None:
        """Start them all now: the caller keeps to ``width``."""
        for order in orders:
            if order.request.kind in self.alone:
                self.worker.rest()  # nothing else lives beside what is timed
            threading.Thread(target=self._serve, args=(order,), daemon=True).start()

    def next(self) -> Attempt:
        """The next attempt that has ended; raises what kept one from being made."""
        ended = self._ended.get()
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def stop(self) -> None:
        """End all processes."""
        self.worker.stop()
        self._scratch.cleanup()

    def _serve(self, order: Order) -> None:
        try:
            self._ended.put(attempt(self.worker, order, self.logs, Path(self._scratch.name), env.env_id(self.device)))
        except BaseException as error:  # noqa: BLE001 - whoever waits for this order raises it
            self._ended.put(error)


def attempt(worker: Worker, order: Order, logs: Path, scratch: Path, env_id: str) -> Attempt:
    """Run an order in a process of this machine and say how it ended.

    logs: where its log stays if anything went wrong; scratch: for reply and crumbs, which are read and removed.
    Raises UsageError if there is no room to write them.
    """
    name = order.task_id if order.attempt == 1 else f"{order.task_id}.{order.attempt}"
    log, reply = inside(logs, f"{name}.log"), scratch / f"{name}.json"
    run = worker.fork if order.request.kind != "timing" and CAN_FORK else worker.fresh
    started, begun, kills = datetime.now(UTC), time.perf_counter(), oom.kills()
    code = None
    try:
        code = run(order.request, reply, log)
    except subprocess.TimeoutExpired:
        pass  # no code
    except OSError as error:
        what = f"{log} cannot be written" if error.filename == str(log) else "no process can be started"
        raise UsageError(f"{what} ({error.strerror}): what was finished before is kept") from None
    if code == NO_SPACE:
        raise UsageError(f"{scratch} cannot be written (no space): what was finished before is kept")
    at = crumb.last(crumb.beside(reply))
    common: dict[str, Any] = {
        "order": order,
        "env_id": env_id,
        "started": started.isoformat(timespec="seconds"),
        "wall": round(time.perf_counter() - begun, 3),
        "crumb": Crumb(*at) if at else None,
        "oom_kills": oom.kills() - kills,
        "code": code,
        "log": log,
    }
    answer = read(reply) if code == 0 else None
    for path in (reply, crumb.beside(reply)):
        path.unlink(missing_ok=True)
    if answer is not None:
        if all(result.status == "ok" for result in answer.results):
            log.unlink(missing_ok=True)
        return Attempt(ending="replied", reply=answer, **common)
    return Attempt(ending="timeout" if code is None else "died", said=tail(log), **common)


def read(reply: Path) -> Reply | None:
    """What a process answered; None if it wrote no sound reply."""
    try:
        return Reply.model_validate_json(reply.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
