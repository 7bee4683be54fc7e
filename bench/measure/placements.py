"""Placements: a chunk's callables are built anew several times in a process, and the rounds of all are one run.

Where tensors come to lie in memory may favour one of two identical callables by a tenth, for as long as they lie
there. More rounds only measure it better; building both again draws it anew, as another process does. How many
placements it takes is seen from how far they disagree.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from phnn.timing import Call, Clock, Round, Samples, Spent, Stop

MIN_ROUNDS = 8  # of a run, and of each of its placements but one that the budget cuts short

Place = Callable[[int], Mapping[str, Call]]  # number of the placement → the callables, built anew
SampleOne = Callable[[Mapping[str, Call], Stop], Samples]

_NEXT = "placement"


@dataclass(frozen=True)
class Placed(Samples):
    """The rounds of all placements, and how many each of them has."""

    placements: tuple[int, ...]


@dataclass(frozen=True)
class Placements:
    """fewest: how many there are at least, where ``budget`` seconds hold them, the building of all but the first
    included; one: there is no other. They are enough when they agree to ``precision``."""

    fewest: int
    precision: float
    budget: float
    clock: Clock = time.perf_counter

    def sample(self, place: Place, whole: Stop, sample_one: SampleOne) -> Placed:
        """The rounds of all, until ``whole`` is content with them and they agree, or ``whole`` says "budget".

        A placement lasts until ``whole`` is content, or its share of the budget is spent. Another is begun only where
        what is left of the budget holds ``MIN_ROUNDS`` of it.
        """
        run = _Run(self, whole)
        while not run.parts or run.parts[-1].stopped == _NEXT:
            run.begin()
            run.parts.append(sample_one(place(len(run.parts)), run.stop))
        return run.samples()

    def agree(self, placements: Sequence[Sequence[Round]]) -> bool:
        """Whether each callable's time over the others' is known to the precision, from how they differ in it."""
        # a tenth of a second to load: not for a task of one placement. Not bench.stats, which every table is made
        # with: an edit of it would call for all times to be measured anew
        from scipy.special import stdtrit

        reach = float(stdtrit(len(placements) - 1, 0.975)) / math.sqrt(len(placements))
        spreads = (
            statistics.stdev(_over_others(rounds, name) for rounds in placements) for name in placements[0][0].seconds
        )
        return all(reach * spread <= self.precision for spread in spreads)


@dataclass
class _Run:
    """The rounds so far: all of them, and of each placement."""

    of: Placements
    whole: Stop
    rounds: list[Round] = field(default_factory=list)
    placed: list[list[Round]] = field(default_factory=list)
    parts: list[Samples] = field(default_factory=list)
    placing: float = 0.0  # when the building of the present placement began
    begun: float = 0.0  # when its first round did
    first: float = math.nan  # when the first round of all did

    def begin(self) -> None:
        self.placing = self.of.clock()
        self.placed.append([])

    def stop(self, rounds: Sequence[Round]) -> str | None:
        """When the present placement ends: for good, or to be followed by the next."""
        present, now = self.placed[-1], self.of.clock()
        if not rounds:
            self.begun = now
            self.first = now if len(self.placed) == 1 else self.first
        new = rounds[len(present) :]
        present.extend(new)
        self.rounds.extend(new)
        reason = self.whole(self.rounds)
        if reason == "budget" or self.of.fewest == 1:
            return reason
        if len(rounds) < MIN_ROUNDS:
            return None
        spent = now - self.begun
        if not reason and spent < self.of.budget / self.of.fewest:
            return None
        if reason and len(self.placed) >= self.of.fewest and self.of.agree(self.placed):
            return reason
        another = self.begun - self.placing + MIN_ROUNDS * spent / len(rounds)
        return _NEXT if now - self.first + another <= self.of.budget else None

    def samples(self) -> Placed:
        """settled: in every placement; spent: in all of them together."""
        spent = Spent(
            warmup=sum(part.spent.warmup for part in self.parts),
            discarded=sum(part.spent.discarded for part in self.parts),
            measured=sum(part.spent.measured for part in self.parts),
        )
        settled = {name: all(part.settled[name] for part in self.parts) for name in self.parts[0].settled}
        counts = tuple(len(rounds) for rounds in self.placed if rounds)
        return Placed(tuple(self.rounds), self.parts[-1].stopped, settled, spent, counts)


def _over_others(rounds: Sequence[Round], name: str) -> float:
    """The median over rounds of the logarithm of its time over the geometric mean of the others' (of none: 0)."""
    found = []
    for each in rounds:
        others = [math.log(seconds) for other, seconds in each.seconds.items() if other != name]
        found.append(math.log(each.seconds[name]) - statistics.fmean(others) if others else 0.0)
    return statistics.median(found)
