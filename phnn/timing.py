"""The interleaved sampler: callables, a clock and a sync in, raw rounds out. Knows no statistics and no sweep.

Machines drift. Two callables timed one after the other differ by what the machine did meanwhile; visited in turn,
in an order drawn anew each round, they share it, and their ratio within a round is what they differ by.

    warm up every callable, until it no longer gets faster or its share of time is spent
    until stop(rounds) gives a reason:
        for each callable, in random order:
            warm:  one call, discarded      (its data and code come back into the caches)
                   watch a block of calls that lasts min_block
            cold:  chill()                  (its data leave the caches)
                   watch a single call
        a round = seconds per call of each callable
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]
Stop = Callable[[Sequence["Round"]], str | None]
Call = Callable[[], object]
Watch = Callable[[Call, int], float]  # (call, how often) → the seconds that the calls took together

# a callable has settled once the fastest of its latest blocks is no faster, by more than CHANGE, than the fastest of
# as many blocks before them; only what gets faster is waited for, as a cache that fills and a clock that ramps do
BLOCKS, CHANGE = 3, 0.05


@dataclass(frozen=True)
class Round:
    """One visit to every callable: seconds per call and calls per block, in the order of the visits."""

    seconds: Mapping[str, float]
    calls: Mapping[str, int]


@dataclass
class Spent:
    """Where the seconds of a run went, by the host's clock; what is left of its wall time is the sampler's own.

    warmup: before the first round; discarded: first calls of visits, and chilling; measured: watching the blocks, and
    what a watch waits for before them (a chill that was only queued).
    """

    warmup: float = 0.0
    discarded: float = 0.0
    measured: float = 0.0


@dataclass(frozen=True)
class Samples:
    """All rounds of a run, none dropped, and why it stopped.

    settled: of each callable whether it had stopped getting faster when its warm-up ended; spent: where time went.
    """

    rounds: tuple[Round, ...]
    stopped: str
    settled: Mapping[str, bool]
    spent: Spent

    def seconds(self, name: str) -> list[float]:
        """Seconds per call of one callable, a value a round."""
        return [r.seconds[name] for r in self.rounds]


def no_sync() -> None:
    """For devices that have finished when the call returns (CPU)."""


def host_watch(clock: Clock = time.perf_counter, sync: Callable[[], None] = no_sync) -> Watch:
    """A watch that reads the host's clock before the first call and after the device has finished the last."""

    def watch(call: Call, calls: int) -> float:
        start = clock()
        for _ in range(calls):
            call()
        sync()
        return clock() - start

    return watch


def sample(
    variants: Mapping[str, Call],
    stop: Stop,
    *,
    min_block: float = 1e-3,
    warmup: int = 3,
    settle: float = 0.0,
    watch: Watch | None = None,
    chill: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
    sync: Callable[[], None] = no_sync,
    rng: random.Random | None = None,
    visit: Callable[[str], object] | None = None,
) -> Samples:
    """Time ``variants`` in interleaved rounds of random order until ``stop(rounds)`` gives a reason.

    min_block: seconds that a block lasts at least, so that the clock's resolution does not show. sync waits until
    the device has finished. Calls per block are chosen in the warm-up and kept, so that a block's content never
    depends on its own duration. warmup: calls at least; settle: seconds at most that each callable is then given to
    stop getting faster. watch: how a block is timed (the host's clock); chill: done before each call, which is then
    timed alone. visit is told the name of each callable before its warm-up and before each visit, outside of what is
    timed.
    """
    if not variants:
        raise ValueError("sample needs at least one callable")
    rng = rng or random.Random(0)
    watch = watch or host_watch(clock, sync)
    spent, calls, settled = Spent(), {}, {}
    begun = clock()
    for name, call in variants.items():
        if visit:
            visit(name)
        for _ in range(warmup):
            call()
        sync()
        calls[name], settled[name] = _settle(call, watch, 0.0 if chill else min_block, settle, clock)
    spent.warmup = clock() - begun
    rounds: list[Round] = []
    order = list(variants)
    while not (reason := stop(rounds)):
        rng.shuffle(order)
        seconds = {}
        for name in order:
            if visit:
                visit(name)
            arrived = clock()
            if chill:
                chill()
            else:
                variants[name]()
                sync()
            ready = clock()
            seconds[name] = watch(variants[name], calls[name]) / calls[name]
            spent.discarded += ready - arrived
            spent.measured += clock() - ready
        rounds.append(Round(seconds, calls))
    return Samples(tuple(rounds), reason, settled, spent)


def _settle(call: Call, watch: Watch, min_block: float, seconds: float, clock: Clock) -> tuple[int, bool]:
    """The number of calls that fill ``min_block``, doubled until they do, and whether the blocks have settled."""
    begun, calls = clock(), 1
    blocks: list[float] = []
    while True:
        block = watch(call, calls)
        if block < min_block:
            calls, blocks = 2 * calls, []
            continue
        blocks.append(block)
        settled = _has_settled(blocks)
        if settled or clock() - begun >= seconds:
            return calls, settled


def _has_settled(blocks: Sequence[float]) -> bool:
    before, latest = blocks[-2 * BLOCKS : -BLOCKS], blocks[-BLOCKS:]
    return len(before) == BLOCKS and min(latest) >= (1 - CHANGE) * min(before)
