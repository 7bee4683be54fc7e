"""Latency of a chunk of a group: all its subjects in one process, interleaved round by round, by one timer."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from phnn import timing

from ..machine.devices import Device
from .placements import MIN_ROUNDS, Place, Placed, Placements

_TAIL = 0.025  # on either side of a 95 % interval
LOOK = 1.05  # the rounds are looked at again when there are so many times as many: looking takes time too


def stop_rule(precision: float, budget: float, clock: Callable[[], float] = time.perf_counter) -> timing.Stop:
    """Stop when every median is known to ``precision`` (relative half-width), or after ``budget`` seconds."""
    started: float | None = None
    look = float(MIN_ROUNDS)

    def stop(rounds: Sequence[timing.Round]) -> str | None:
        nonlocal started, look
        started = clock() if started is None else started
        if len(rounds) < MIN_ROUNDS:
            return None
        if clock() - started >= budget:
            return "budget"
        if len(rounds) % 4 == 0 and len(rounds) >= look:
            look = LOOK * len(rounds)
            if all(half_width([r.seconds[n] for r in rounds]) <= precision for n in rounds[0].seconds):
                return "precision"
        return None

    return stop


def half_width(values: Sequence[float]) -> float:
    """Relative half-width of the 95 % interval of a median, from order statistics (no distribution assumed).

    Of fewer than six values it is that of all of them, which covers less.
    """
    ordered = sorted(values)
    low = left_out(len(ordered))
    return (ordered[-1 - low] - ordered[low]) / (2 * statistics.median(ordered))


@cache
def left_out(count: int) -> int:
    """How many of ``count`` values lie on either side of the 95 % interval of their median.

    The most, k, with P(X < k) <= 0.025 for X binomial (count, 1/2): the interval from the k-th value to the k-th from
    the end covers at least 95 %, k - 1 are left out. Summed from the middle, in about sqrt(count) steps.
    Source: Hahn and Meeker, *Statistical Intervals*, 1991, section 5.2.
    """
    last = (count - 1) // 2  # the largest number below count / 2
    share = math.exp(
        math.lgamma(count + 1) - math.lgamma(last + 1) - math.lgamma(count - last + 1) - count * math.log(2)
    )
    middle = 0.0 if count % 2 else share * (count - last) / (last + 1)
    at_most = (1 - middle) / 2  # P(X <= last)
    while last > 0 and at_most > _TAIL:
        at_most -= share
        share *= last / (count - last + 1)
        last -= 1
    return max(0, last)


def build_order(names: Sequence[str], repetition: int, placement: int, of: str) -> list[str]:
    """``names`` in the order in which they are built: drawn, and reversed by every second process and placement.

    Where memory comes to lie depends on what was built before. A fixed order is a bias that all processes share; a
    drawn one is noise between them, which the next process takes back where it builds in reverse. of: what is built,
    so that another group draws another order.
    """
    drawn = random.Random(f"build {of} {repetition // 2} {placement // 2}").sample(list(names), len(names))
    return drawn[::-1] if (repetition + placement) % 2 else drawn


def prepared(call: timing.Call, timer: str, device: Device) -> timing.Call:
    """What ``timer`` calls again and again: the call itself, or its CUDA graph."""
    return device.capture(call) if timer == "graph" else call


def measure(
    place: Place,
    *,
    placements: int = 1,
    precision: float,
    budget: float,
    min_block: float,
    seed: int,
    device: Device,
    timer: str = "host_warm",
    clock: timing.Clock = time.perf_counter,
    visit: Callable[[str], object] | None = None,
) -> Placed:
    """Interleaved rounds of all the calls that ``place`` gives, as ``prepared`` made them, raw.

    place: builds all of them, for each placement anew; placements: the fewest of them; seed draws the order of the
    rounds; visit is told whose turn it is. Python's cyclic garbage is collected between visits, never within a block.

    host_warm, host_cold: the host's clock around calls whose device has finished; device_warm, device_cold, graph:
    the device's events around them. Cold ones time single calls, the caches swept before each. The warm-up waits for
    each call to settle, all together no longer than the budget.
    """

    def chill_and_wait() -> None:
        device.chill()
        device.sync()

    def arrive(name: str) -> None:
        gc.collect(0)
        if visit:
            visit(name)

    # before events the sweep is only queued: while the device sweeps, the host launches the call
    chills: dict[str, Callable[[], None]] = {"host_cold": chill_and_wait, "device_cold": device.chill}
    rng = random.Random(seed)

    def sample_one(calls: Mapping[str, timing.Call], stop: timing.Stop) -> timing.Samples:
        with _no_collector():
            return timing.sample(
                calls,
                stop,
                min_block=min_block,
                settle=budget / placements / max(1, len(calls)),
                watch=timing.host_watch(clock, device.sync) if timer.startswith("host") else device.watch,
                chill=chills.get(timer),
                clock=clock,
                sync=device.sync,
                rng=rng,
                visit=arrive,
            )

    return Placements(placements, precision, budget, clock).sample(
        place, stop_rule(precision, budget, clock), sample_one
    )


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Without Python's collector of cyclic garbage, and with what lives now out of its sight."""
    ran = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if ran:
            gc.enable()


def walltime(
    start: float, build: float, spent: timing.Spent, timed: float, checks: float = 0.0, energy: float = 0.0
) -> dict[str, float]:
    """Where the seconds of a timing task went; ``overhead`` is what is left of ``timed``, the process's age by then.

    start: interpreter and imports; build: modules, inputs, first calls and compilation; warmup; discarded: first
    calls of visits and cache sweeps; measured: what the samples say; after that checks, of the answers as they were
    timed, and energy.
    """
    known = {
        "start": start,
        "build": build,
        "warmup": spent.warmup,
        "discarded": spent.discarded,
        "measured": spent.measured,
    }
    return {**known, "overhead": timed - sum(known.values()), "checks": checks, "energy": energy}


def overhead_share(walltime: Mapping[str, float], *apart: str) -> float:
    """The share of a timing task outside measured calls; start, build and all warm-up, that of visits too, apart.

    apart: what is left out instead of those four. Windows of energy are another measurement.
    """
    left_out = {"energy", *(apart or ("start", "build", "warmup", "discarded"))}
    counted = sum(seconds for name, seconds in walltime.items() if name not in left_out)
    return (counted - walltime["measured"]) / counted
