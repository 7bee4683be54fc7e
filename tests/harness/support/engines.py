"""Engines that start no process: what is asked of them is answered by a function, and remembered."""

from collections import deque
from pathlib import Path

from bench.launch.engine import Attempt, Crumb
from bench.task.protocol import Reply, Result


def sound(order):
    """A reply in which every case is well."""
    timed = order.request.kind == "timing"
    return Reply(
        results=[
            Result(
                case_id=case.id,
                values={} if timed else {"params": 3, "numeric_error": 0.0},
                seconds=[0.5, 0.5] if timed else [],
            )
            for case in order.request.case_list()
        ]
    )


def ended(order, reply=None, *, ending=None, at=None, step="run", env_id="cpu-x", **fields):
    """An attempt of an order: replied, or died with signal 9 unless it is said otherwise."""
    ending = ending or ("replied" if reply else "died")
    code = 0 if reply else None if ending in ("timeout", "lost") else -9
    return Attempt(
        **{
            "order": order, "env_id": env_id, "ending": ending, "started": "2026-01-01T00:00:00+00:00", "wall": 1.0,
            "reply": reply, "code": code, "crumb": Crumb(at, step) if at else None, "log": Path("t.log"), **fields,
        }
    )  # fmt: skip


class Instant:
    """Answers each order by ``answer(order)``: a Reply, or an Attempt. orders: all that it was given."""

    def __init__(self, answer=sound, alone=("timing",), width=2):
        self.answer, self.alone, self._width = answer, frozenset(alone), width
        self.orders, self.waiting = [], deque()
        self.most = 0  # that waited at once

    def width(self, kind):
        return 1 if kind in self.alone else self._width

    def submit(self, orders):
        self.orders += orders
        self.waiting += orders
        kinds = {order.request.kind for order in self.waiting}
        assert len(self.waiting) <= max(self.width(kind) for kind in kinds), "more than the engine takes"
        assert not kinds & self.alone or len(self.waiting) == 1, "something runs beside what must be alone"
        self.most = max(self.most, len(self.waiting))

    def next(self):
        order = self.waiting.popleft()
        found = self.answer(order)
        return found if isinstance(found, Attempt) else ended(order, found)

    def stop(self):
        self.waiting.clear()
