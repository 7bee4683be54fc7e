"""The interleaved sampler: callables, a clock and a sync in, raw rounds out. Knows no statistics and no sweep.

Machines drift. Two callables timed one after the other differ by what the machine did meanwhile; visited in turn,
in an order drawn anew each round, they share it, and their ratio within a round is what they differ by.

    warm up every callable
    until stop(rounds) gives a reason:
        for each callable, in random order:
            one call, discarded          (its data and code come back into the caches)
            start the clock; call it again and again until the block lasts min_block; stop the clock
        a round = seconds per call of each callable
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]
Stop = Callable[[Sequence["Round"]], str | None]


@dataclass(frozen=True)
class Round:
    """One visit to every callable: seconds per call and calls per block, in the order of the visits."""

    seconds: Mapping[str, float]
    calls: Mapping[str, int]


@dataclass(frozen=True)
class Samples:
    """All rounds of a run, none dropped, and why it stopped."""

    rounds: tuple[Round, ...]
    stopped: str

    def seconds(self, name: str) -> list[float]:
        """Seconds per call of one callable, a value a round."""
        return [r.seconds[name] for r in self.rounds]


def no_sync() -> None:
    """For devices that have finished when the call returns (CPU)."""


def sample(
    variants: Mapping[str, Callable[[], object]],
    stop: Stop,
    *,
    min_block: float = 1e-3,
    warmup: int = 3,
    clock: Clock = time.perf_counter,
    sync: Callable[[], None] = no_sync,
    rng: random.Random | None = None,
) -> Samples:
    """Time ``variants`` in interleaved rounds of random order until ``stop(rounds)`` gives a reason.

    min_block: seconds that a block lasts at least, so that the clock's resolution does not show. sync waits until
    the device has finished. Calls per block are chosen in the first round and kept, so that a block's content
    never depends on its own duration.
    """
    if not variants:
        raise ValueError("sample needs at least one callable")
    rng = rng or random.Random(0)
    for call in variants.values():
        for _ in range(warmup):
            call()
        sync()
    calls = {name: _calls_for(call, min_block, clock, sync) for name, call in variants.items()}
    rounds: list[Round] = []
    order = list(variants)
    while not (reason := stop(rounds)):
        rng.shuffle(order)
        seconds = {}
        for name in order:
            variants[name]()
            sync()
            seconds[name] = _block(variants[name], calls[name], clock, sync) / calls[name]
        rounds.append(Round(seconds, calls))
    return Samples(tuple(rounds), reason)


def _block(call: Callable[[], object], calls: int, clock: Clock, sync: Callable[[], None]) -> float:
    start = clock()
    for _ in range(calls):
        call()
    sync()
    return clock() - start


def _calls_for(call: Callable[[], object], min_block: float, clock: Clock, sync: Callable[[], None]) -> int:
    """The number of calls that fill ``min_block``: doubled until they do."""
    calls = 1
    while _block(call, calls, clock, sync) < min_block:
        calls *= 2
    return calls
