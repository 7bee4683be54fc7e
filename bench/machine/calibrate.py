"""Measuring the roofs of this machine: peak arithmetic, bandwidths, overheads, caches (values: ``roofs``).

    peak       square matrix products, 2 m^3 FLOP, of each dtype and several m, interleaved: the fastest round of all
    bandwidth  b.copy_(a) (reads and writes) and a matrix times a vector (reads alone), on working sets from
               SMALLEST to four times the last-level cache: the fastest round of each
    launch     one operator on one element, the median of rounds
    timer      the least step between two readings of the clock that differ

The fastest round, since whatever else runs on the machine only adds, and a roof must not stand below what is reached.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil
import torch

from phnn.timing import Clock, Round, Samples, no_sync, sample
from phnn.tolerances import dtypes

from . import caches, env, watch
from .roofs import Rates, Roofs

SMALLEST = 2**18  # bytes; below, the overhead of a call is what one measures
LARGEST = 2**30  # bytes of the largest working set on a machine that does not tell its caches
_SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192, 16384)}
_SLOW = 0.25  # seconds: a product that takes longer is left out, and larger ones with it, unless it is the smallest
_MEMORY_SHARE = 32  # of what is free, the part that the largest working set may take, or twice that
_MIN_ROUNDS = 5


@dataclass(frozen=True)
class Bench:
    """How calibration times: the device, what waits for it, the clock, and seconds for each of its steps."""

    device: str
    sync: Callable[[], None] = no_sync
    clock: Clock = time.perf_counter
    budget: float = 1.0

    def fastest(self, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Seconds of one call of each: its fastest round."""
        samples = self._samples(calls)
        return {name: min(samples.seconds(name)) for name in calls}

    def median(self, call: Callable[[], object]) -> float:
        """Seconds of one call."""
        return statistics.median(self._samples({"call": call}).seconds("call"))

    def once(self, call: Callable[[], object]) -> float:
        """Seconds of a single call, after one that warms up."""
        call()
        self.sync()
        started = self.clock()
        call()
        self.sync()
        return self.clock() - started

    def _samples(self, calls: dict[str, Callable[[], object]]) -> Samples:
        end: list[float] = []

        def stop(rounds: Sequence[Round]) -> str | None:
            if not end:
                end.append(self.clock() + self.budget)
            return "budget" if len(rounds) >= _MIN_ROUNDS and self.clock() >= end[0] else None

        return sample(calls, stop, warmup=1, sync=self.sync, clock=self.clock)


def calibrate(device: str, threads: Sequence[int] = (), budget: float = 1.0) -> Roofs:
    """Measure the roofs of this machine for ``device``, at one thread, at all cores, and at ``threads``.

    budget: seconds that each of the some ten steps at a number of threads may take.
    """
    bench = Bench(device, torch.cuda.synchronize if device == "cuda" else no_sync, budget=budget)
    counts = [0] if device == "cuda" else sorted({1, env.identity("cpu")["cores"], *threads})
    before = watch.look(device)
    known = _caches(device)
    rates = []
    with _threads_kept():
        for count in counts:
            if count:
                torch.set_num_threads(count)
            rates.append(_rates(bench, count, _working_sets(device)))
    seen = watch.between(before, watch.look(device))
    by = "os"
    if not known:
        by, size = "sweep", caches.from_bandwidths(rates[-1].read)
        known = {"last": size} if size else {}
    return Roofs(
        env_id=env.env_id(device),
        device=device,
        rates=rates,
        launch=launch(bench),
        timer=resolution(),
        caches=known,
        caches_by=by,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        marks=watch.marks(seen),
        watch=seen,
    )


def _caches(device: str) -> dict[str, int]:
    if device == "cuda":
        return {"L2": int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)}
    return caches.from_os()


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _working_sets(device: str) -> list[int]:
    """Doubled from SMALLEST until the last is four times all last-level caches, or the share of what is free."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    last = max(_caches(device).values()) if device == "cuda" else caches.last_level()
    most = min(4 * last if last else LARGEST, free // _MEMORY_SHARE)
    sizes = [SMALLEST]
    while sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    return sizes


def _rates(bench: Bench, threads: int, working_sets: Sequence[int]) -> Rates:
    flops, unsupported = {}, {}
    for name in (*dtypes(), "tf32"):
        try:
            flops[name] = peak(bench, name)
        except (RuntimeError, TypeError, ValueError) as error:  # this device or build of torch lacks that product
            unsupported[name] = str(error).strip().splitlines()[0]
    copied, read = bandwidths(bench, working_sets)
    return Rates(threads=threads, flops=flops, copied=copied, read=read, unsupported=unsupported)


def peak(bench: Bench, arithmetic: str) -> float:
    """FLOP/s of the fastest square matrix product; a ValueError for tf32 where there is none."""
    if arithmetic == "tf32" and bench.device != "cuda":
        raise ValueError("tf32 is an arithmetic of CUDA devices")
    dtype = torch.float32 if arithmetic == "tf32" else getattr(torch, arithmetic)
    with _tf32(arithmetic == "tf32"), torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {}
        for size in _SIZES[bench.device]:
            try:
                call = _product(size, dtype, bench.device)
                slow = bench.once(call) > _SLOW
            except torch.OutOfMemoryError:
                if not calls:
                    raise
                break  # a small GPU has its peak at the sizes that fit
            if slow and calls:
                break
            calls[str(size)] = call
            if slow:
                break
        seconds = bench.fastest(calls)
    return max(2 * int(size) ** 3 / taken for size, taken in seconds.items())


def _product(size: int, dtype: torch.dtype, device: str) -> Callable[[], object]:
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty(size, size, dtype=dtype, device=device)
    return lambda: torch.mm(a, b, out=out)


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """What float32 says is what runs, but where tf32 is asked for."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def bandwidths(bench: Bench, working_sets: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """B/s of copying and of reading, by the bytes that one call touches."""
    calls: dict[str, Callable[[], object]] = {}
    with torch.inference_mode():
        for size in working_sets:
            calls[f"copy {size}"] = _copy(size, bench.device)
            calls[f"read {size}"] = _read(size, bench.device)
        seconds = bench.fastest(calls)
    return tuple({size: size / seconds[f"{what} {size}"] for size in working_sets} for what in ("copy", "read"))  # type: ignore[return-value]


def _copy(size: int, device: str) -> Callable[[], object]:
    source = torch.ones(size // 8, device=device)  # half of the working set, in elements of 4 bytes
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _read(size: int, device: str) -> Callable[[], object]:
    columns = 1024
    matrix = torch.ones(size // 4 // columns, columns, device=device)
    vector, out = torch.ones(columns, device=device), torch.empty(size // 4 // columns, device=device)
    return lambda: torch.mv(matrix, vector, out=out)


def launch(bench: Bench) -> float:
    """Seconds of an operator on a single element: what a call takes before it computes."""
    one = torch.zeros(1, device=bench.device)
    with torch.inference_mode():
        return bench.median(lambda: one.add_(1))


def resolution(clock: Clock = time.perf_counter, readings: int = 2000) -> float:
    """The least step between two readings of the clock that differ, in seconds."""
    steps = []
    for _ in range(readings):
        first = clock()
        while (second := clock()) == first:
            pass
        steps.append(second - first)
    return min(steps)
