"""One job of a cluster, on its node: ``python -m bench.launch.task RUN BATCH INDEX``.

It does the orders that the spool holds for it as a run on that machine would do them, each in a fresh process, and
writes how each ended aside, whole, as soon as it is known. A job that is started again does what is left.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from phnn import plugins

from ..errors import UsageError
from ..machine import env
from ..plan.case import Kind
from ..store.folder import inside
from .engine import Attempt, Engine, Order
from .local import Local
from .spool import Answer, Asked, Spool, describe, revision

_LAST = 150  # seconds before the end of its time by which a job is done: submitit ends it 90 s before
_NEWS = 2.0  # seconds that a signal may take to reach us after one of our processes


def main(run: Path, batch: str, index: int) -> None:
    """Do the orders of a job."""
    ends = time.monotonic() - _LAST
    spool = Spool(run)
    job = spool.job(batch, index)
    answered = spool.answered()
    asked = [order for order in job.orders if order.key not in answered]
    if not asked:
        return
    if problem := _unfit(asked):
        for order in asked:
            _put(spool, order, ending="refused", said=problem)
        return
    device = asked[0].request.device
    try:
        described = describe(device, run)
        with Local(_logs(run, asked[0].hardware), device) as engine:
            work(asked, engine, spool, described["identity"]["cores"], ends + 60 * job.minutes)
    except UsageError as error:  # no room on this node: nothing is known against the tasks
        answered = spool.answered()
        for order in asked:
            if order.key not in answered:
                _put(spool, order, ending="refused", said=str(error))


def _logs(run: Path, hardware: str) -> Path:
    """The folder for what processes print on this kind of machine."""
    logs = inside(run, "logs")
    logs = inside(logs, hardware) if hardware else logs
    logs.mkdir(parents=True, exist_ok=True)
    return logs


def work(asked: Sequence[Asked], engine: Engine, spool: Spool, cores: int, ends: float) -> None:
    """Do the orders, as many at once as the engine takes; what could not end in time is left, but for the first."""
    waiting, running = deque(asked), dict[tuple[str, int], Asked]()
    kind: Kind = asked[0].request.kind
    begun = 0
    while waiting or running:
        while waiting and len(running) < engine.width(kind):
            order = waiting[0]
            if begun and time.monotonic() + order.request.protocol.timeout > ends:
                for late in waiting:
                    _put(spool, late, ending="left")
                waiting.clear()
                break
            waiting.popleft()
            begun += 1
            running[order.task_id, order.attempt] = order
            engine.submit([_here(order, cores)])
        if running:
            attempt = engine.next()
            _keep(spool, running.pop((attempt.order.task_id, attempt.order.attempt)), attempt)


def _here(asked: Asked, cores: int) -> Order:
    """The order with the threads that all cores of this machine are, if it asks for those."""
    request = asked.request
    if not request.threads:
        request = request.model_copy(update={"threads": cores})
    return Order(asked.task_id, asked.attempt, request, asked.hardware)


def _unfit(asked: Sequence[Asked]) -> str | None:
    """Why nothing can be measured here."""
    try:
        env.check_device(asked[0].request.device)
    except UsageError as error:
        return f"{error}; name a gres or a constraint in [launch.slurm]"
    try:
        for name in asked[0].request.plugins:
            plugins.load_named(name)
    except ValueError as error:
        return str(error)
    for order in asked:
        if (here := revision(order.request)) != order.code_rev:
            return (
                f"it has other sources than the run was started with (code {here}, not {order.code_rev}): use one "
                "checkout that all nodes see, and leave it unchanged while jobs wait; the same command continues"
            )
    return None


def _keep(spool: Spool, asked: Asked, attempt: Attempt) -> None:
    if attempt.code == -signal.SIGTERM:
        time.sleep(_NEWS)  # a job that is cancelled or preempted: all its processes are ended, we among them
    # to the microsecond: it tells this attempt from all others of its task
    started = datetime.now(UTC) - timedelta(seconds=attempt.wall)
    _put(
        spool, asked, ending=attempt.ending, env_id=attempt.env_id, wall=attempt.wall, reply=attempt.reply,
        code=attempt.code, crumb=attempt.crumb, oom_kills=attempt.oom_kills, log=str(attempt.log), said=attempt.said,
        started=started.isoformat(timespec="microseconds"),
    )  # fmt: skip


def _put(spool: Spool, asked: Asked, **values: Any) -> None:
    spool.put_answer(asked.key, Answer(task_id=asked.task_id, host=socket.gethostname(), **values))


def _end(number: int, frame: FrameType | None) -> None:
    """Preempted, or cancelled: the engine ends its processes on the way out."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
