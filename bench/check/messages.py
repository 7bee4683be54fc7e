"""What crosses the border between ``bench check`` and one of its processes: an order in, an answer out, both JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..plan.sweep import Protocol

Family = Literal["matmul", "conv", "copy"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kernel(_Message):
    """A piece of work: its kind and the size that makes it take a wanted time here."""

    family: Family
    size: int


class Pair(_Message):
    """Two callables that call the same kernel, the first and the second so many times."""

    kernel: Kernel
    calls: tuple[int, int]

    @property
    def truth(self) -> float:
        """What the ratio second / first is."""
        return self.calls[1] / self.calls[0]


class Timed(_Message):
    """A pair as one process timed it.

    ratio: second / first, the mean of its placements' medians over rounds; seconds: median of the first; stopped: why
    the rounds ended; wall: seconds that it took with all that belongs to it (warm-up, counting the calls of a block).
    """

    ratio: float
    seconds: float
    rounds: int
    stopped: str
    wall: float


class Order(_Message):
    """What a process is to do, in this order; whatever is left empty is not done.

    durations: seconds per call for which a kernel of each family is wanted; pairs: to be timed by the harness, at
    most ``limit`` seconds long; sequential: pairs to be timed one after the other by torch.utils.benchmark, each
    callable so many seconds; peers: kernels that every timer at hand times in turn.
    """

    device: str
    threads: int
    repetition: int
    protocol: Protocol
    durations: list[float] = []
    pairs: list[Pair] = []
    limit: float | None = None
    sequential: list[tuple[Pair, float]] = []
    peers: list[Kernel] = []


class Answer(_Message):
    """What it found, aligned with the order; ``pairs`` ends early where the limit cut it.

    watch: what bench.machine.watch says of the time in which the pairs were timed; peers: timer → its time over
    ours, a value a kernel; absent: timer → why it was not asked.
    """

    kernels: list[Kernel] = []
    pairs: list[Timed] = []
    watch: dict[str, Any] = {}
    sequential: list[float] = []
    peers: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
