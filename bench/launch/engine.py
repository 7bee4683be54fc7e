"""What runs orders: the border between ``bench.schedule`` and the places where processes are started.

The unit of work is one task's command: what one fresh process shall do. An engine starts it somewhere, waits, and
says how it ended; it neither judges nor repeats. What follows from an ending, ``outcome`` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..plan.case import Kind
from ..task.protocol import Reply, Request

# lost: the node or the job vanished, and nothing is known of the process
Ending = Literal["replied", "timeout", "died", "lost"]


@dataclass(frozen=True)
class Order:
    """What one fresh process shall do.

    attempt: 1, 2, 3 … of this task; hardware: a kind of machine that the sweep names, empty for wherever.
    """

    task_id: str
    attempt: int
    request: Request
    hardware: str = ""


@dataclass(frozen=True)
class Crumb:
    """What a process was at when it was last heard of: a case, and what was being done with it."""

    case_id: str
    step: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an order ended.

    env_id: of the machine where it ran; started: ISO 8601; wall: seconds from start to end; code: the exit code,
    negative for a signal; oom_kills: by how much the kernel's count of processes that it killed for want of memory
    rose meanwhile; log: what the process printed (absent if all is well); said: its last line.
    """

    order: Order
    env_id: str
    ending: Ending
    started: str
    wall: float
    reply: Reply | None = None
    code: int | None = None
    crumb: Crumb | None = None
    oom_kills: int = 0
    log: Path
    said: str = ""


class Engine(Protocol):
    """A place where orders run.

    alone: the kinds of task that must have the engine to themselves (local: timing; a cluster: none).
    """

    @property
    def alone(self) -> frozenset[Kind]: ...

    def width(self, kind: Kind) -> int:
        """How many orders of a kind it takes at once."""

    def submit(self, orders: Sequence[Order]) -> None:
        """Start them, or queue them where they will be started."""

    def next(self) -> Attempt:
        """Wait until one of those submitted has ended."""

    def stop(self) -> None:
        """End everything now: no process outlives it."""
