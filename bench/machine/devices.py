"""The device layer: all that a timer asks of a CPU or a GPU. Knows no case, no sweep and no statistics.

    sync      wait until the device has finished
    chill     make the caches forget what a call reads
    watch     seconds between two events that the device itself marks around the calls
    capture   a call as a CUDA graph, to be replayed without its launches

The CUDA device talks to ``torch.cuda`` through an argument, so that it can be tested where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from phnn.timing import Call

from . import caches

_UNKNOWN_CACHE = 64 << 20  # bytes: a last-level cache that the system does not tell is taken for a large one
_CHILL = 2  # caches that a sweep fills: with one alone, a policy that keeps what was used twice keeps part of it
_CAPTURE_WARMUP = 3  # calls before a capture: libraries choose algorithms and allocate in the first ones


class Device(Protocol):
    """Where calls run. type: what torch calls it."""

    @property
    def type(self) -> str: ...
    def sync(self) -> None: ...
    def chill(self) -> None: ...
    def watch(self, call: Call, calls: int) -> float: ...
    def capture(self, call: Call) -> Call: ...


def find(name: str) -> Device:
    """The device of a name, ``cpu`` or ``cuda``."""
    return Cuda() if name == "cuda" else Cpu()


class Cpu:
    """The cores of this machine. A call has finished when it returns, and there are no events to mark.

    last_level: bytes of all last-level caches together; 0 where the system does not say.
    """

    type = "cpu"

    def __init__(self, last_level: Callable[[], int] = caches.last_level) -> None:
        self._last_level = last_level
        self._buffer: torch.Tensor | None = None

    def sync(self) -> None:
        """Nothing to wait for."""

    def chill(self) -> None:
        """Read a buffer of twice all last-level caches together, by all threads: each reads its part of it, and so
        sweeps twice the cache that its core shares with others, and the core's own with it.

        Read, not written: lines to be written back would be paid for by the call that is timed.
        """
        if self._buffer is None:
            size = _CHILL * (self._last_level() or _UNKNOWN_CACHE)
            self._buffer = torch.ones(size // 4)  # written once, or all pages would be one page of zeros
        torch.sum(self._buffer)

    def watch(self, call: Call, calls: int) -> float:
        """There are no device events: a ValueError."""
        raise ValueError("device timers need a CUDA device: on a CPU take timer host_warm or host_cold")

    def capture(self, call: Call) -> Call:
        """There are no graphs: a ValueError."""
        raise ValueError("timer graph needs a CUDA device: on a CPU take timer host_warm or host_cold")


class Cuda:
    """The current CUDA device. cuda: the interface of ``torch.cuda``; full: that of ``torch.full``."""

    type = "cuda"

    def __init__(self, cuda: Any = torch.cuda, full: Callable[..., Any] = torch.full) -> None:
        self._cuda, self._full = cuda, full
        self._buffer: Any = None

    def sync(self) -> None:
        """Wait until all that was launched has run."""
        self._cuda.synchronize()

    def chill(self) -> None:
        """Overwrite twice the L2 cache. It is launched, not waited for: the host then runs ahead of the device."""
        if self._buffer is None:
            properties = self._cuda.get_device_properties(self._cuda.current_device())
            size = _CHILL * (properties.L2_cache_size or _UNKNOWN_CACHE)
            self._buffer = self._full((size // 4,), 0.0, device="cuda")
        self._buffer.zero_()

    def watch(self, call: Call, calls: int) -> float:
        """Seconds between two events on the stream, one before the first call and one after the last."""
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def capture(self, call: Call) -> Call:
        """The launches of one call, recorded: what is returned repeats them, on the same tensors, in one launch.

        It gives what the call gave, tensors that each launch overwrites. As torch asks: warmed up on a stream of its
        own first, where nothing else waits.
        """
        stream = self._cuda.Stream()
        stream.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(stream):
            for _ in range(_CAPTURE_WARMUP):
                call()
        self._cuda.current_stream().wait_stream(stream)
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph):
            output = call()

        def replay() -> object:
            graph.replay()
            return output

        return replay
