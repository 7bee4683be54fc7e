"""Which questions the check puts, and how often. Durations are drawn evenly on a logarithmic scale."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from ..plan.sweep import Protocol
from .messages import Family, Kernel, Pair

FAMILIES: tuple[Family, ...] = get_args(Family)
BASE = 20  # calls of the kernel in a callable: one call more is 5 % more work
SHORTEST = 1e-4  # seconds that a callable takes


@dataclass(frozen=True)
class Plan:
    """same, more, loaded: how many pairs of identical callables, of 5 % more work, and of both kinds under a load;
    longest: seconds of the longest callable; limit, loaded_limit: seconds that a process may spend on its pairs;
    peers: kernels that every timer times."""

    protocol: Protocol
    same: int
    more: int
    loaded: int
    longest: float
    limit: float | None
    loaded_limit: float | None
    peers: int

    def durations(self) -> list[float]:
        """Seconds per callable, from shortest to longest, as many as there are pairs without load."""
        count = max(self.same + self.more, 2)
        return [SHORTEST * (self.longest / SHORTEST) ** (i / (count - 1)) for i in range(count)]


# with less time for each pair than a sweep takes by default, because there are hundreds. A quick check has none to
# start more processes than that
QUICK = Plan(
    protocol=Protocol(processes=5, placements=4, precision=0.02, budget=0.5),
    same=40, more=40, loaded=30, longest=0.02, limit=14.0, loaded_limit=6.0, peers=2,
)  # fmt: skip
FULL = Plan(
    protocol=Protocol(processes=10, placements=4, precision=0.02, budget=2.0),
    same=100, more=50, loaded=50, longest=0.05, limit=100.0, loaded_limit=30.0, peers=5,
)  # fmt: skip


@dataclass(frozen=True)
class Questions:
    """The pairs of a plan, over kernels of this machine."""

    idle: tuple[Pair, ...]
    loaded: tuple[Pair, ...]
    peers: tuple[Kernel, ...]


def questions(plan: Plan, kernels: Sequence[Kernel], seed: int = 0) -> Questions:
    """Pairs in random order, so that wherever time runs out, every kind and duration had its turn.

    kernels: ``FAMILIES`` in turn for each of ``plan.durations()``, a twentieth of it long.
    """
    rng = random.Random(seed)
    by_duration = [kernels[i * len(FAMILIES) + i % len(FAMILIES)] for i in range(len(plan.durations()))]
    drawn = rng.sample(by_duration, len(by_duration))
    same, more = drawn[: plan.same], drawn[plan.same : plan.same + plan.more]
    pairs = [Pair(kernel=k, calls=(BASE, BASE)) for k in same] + [
        Pair(kernel=k, calls=(BASE, BASE + 1)) for k in more
    ]
    rng.shuffle(pairs)
    loaded = [
        Pair(kernel=kernel, calls=(BASE, BASE + i % 2))
        for i, kernel in enumerate(rng.choices(by_duration, k=plan.loaded))
    ]
    peers = rng.sample(by_duration, min(plan.peers, len(by_duration)))
    return Questions(tuple(pairs), tuple(loaded), tuple(peers))


def without_load(plan: Plan) -> Plan:
    """The plan for a machine that has no other core."""
    return replace(plan, loaded=0)
