"""How often intervals cover and verdicts err, simulated at the numbers of processes really used; a fixed seed.

    python tests/harness/support/simulations.py    writes the tables of docs/methodology.md (about half a minute)

A simulated machine: a round's time is the true one times a process's own factor (where its memory lies), a drift
that everything in the round shares, and noise of its own. The bench sees rounds alone. Every figure is a share of
simulated measurements; the truth is known, so covering is counted, not argued.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from bench.stats import BOOTSTRAP_FROM, LEVEL, MARGIN, called_slower, process_interval, resolvable  # noqa: E402

Array = np.ndarray
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

PROCESSES = (3, 5, 10)
ROUNDS = 20
MEASUREMENTS = 10_000
PLACEMENT = 0.01  # sd between processes of the logarithm of a ratio


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Lognormal of shape 1, mean 0 and sd 1: skewness 6.2; rare rounds, or processes, are much slower."""
    return (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


def _bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Two modes, the slow one in 30 %; mean 0 and sd 1, a tenth of it within a mode."""
    slow = rng.random(shape) < 0.3
    return (slow - 0.3) / np.sqrt(0.3 * 0.7) * np.sqrt(0.99) + 0.1 * rng.normal(size=shape)


@dataclass(frozen=True)
class World:
    """What the machine does: the shape of a round's noise, of a process's factor, and how far clocks drift.

    noise: sd of a round; drift: sd between processes of the change of clock from the first to the last round.
    """

    name: str
    rounds: Draw = _normal
    processes: Draw = _normal
    noise: float = 0.01
    drift: float = 0.0

    def medians(self, rng: np.random.Generator, count: int, processes: int) -> tuple[Array, Array]:
        """Logarithms, (count, processes): the median time, and the median ratio to a baseline of the same rounds."""
        shape = (count, processes, ROUNDS)
        slope = self.drift * rng.normal(size=(count, processes, 1)) * np.linspace(0, 1, ROUNDS)
        mine, theirs = (slope + self.noise * self.rounds(rng, shape) for _ in range(2))
        place = PLACEMENT * self.processes(rng, (count, processes))
        return np.median(mine, axis=2) + place, np.median(mine - theirs, axis=2) + place


WORLDS = (
    World("normal"),
    World("rounds skewed", rounds=_skewed),
    World("rounds bimodal", rounds=_bimodal, noise=0.05),
    World("clock drifts by 10 %", drift=0.1),
    World("processes skewed", processes=_skewed),
    World("processes bimodal", processes=_bimodal),
)


def covered(logs: Array, truth: float, level: float = LEVEL) -> float:
    """The share of measurements, rows of ``logs``, whose Student's t interval holds ``truth``."""
    count = logs.shape[1]
    reach = stats.t.ppf((1 + level) / 2, count - 1) * logs.std(axis=1, ddof=1) / np.sqrt(count)
    return float(np.mean(np.abs(logs.mean(axis=1) - truth) <= reach))


@cache
def truths(world: World) -> tuple[float, float]:
    """What the intervals are to hold, from 200 000 processes: the median of 20 rounds has a bias of its own."""
    time, ratio = world.medians(np.random.default_rng(0), 20_000, 10)
    return float(time.mean()), float(ratio.mean())


def coverage(world: World, processes: int, measurements: int = MEASUREMENTS, seed: int = 0) -> tuple[float, float]:
    """Coverage of Student's t intervals of the latency and of the ratio."""
    time, ratio = world.medians(np.random.default_rng([seed, processes]), measurements, processes)
    return covered(time, truths(world)[0]), covered(ratio, truths(world)[1])


def bootstrap_coverage(world: World, processes: int, measurements: int) -> tuple[float, float]:
    """Coverage of BCa intervals of the latency and of the ratio, as they are used for many processes."""
    found = world.medians(np.random.default_rng([1, processes]), measurements, processes)
    shares = []
    for logs, truth in zip(found, truths(world), strict=True):
        intervals = [process_interval(row) for row in np.exp(logs).tolist()]
        shares.append(float(np.mean([each.lo <= np.exp(truth) <= each.hi for each in intervals])))
    return shares[0], shares[1]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def coverage_table() -> str:
    """Coverage in per cent: a row for each world, the latency's and the ratio's for each number of processes."""
    lines = []
    for world in WORLDS:
        shares = [coverage(world, processes) for processes in (*PROCESSES, BOOTSTRAP_FROM)]
        shares.append(bootstrap_coverage(world, BOOTSTRAP_FROM, 1000))
        lines.append([world.name, *(f"{100 * time:.1f} · {100 * ratio:.1f}" for time, ratio in shares)])
    head = ["what varies", *(f"R = {processes}" for processes in (*PROCESSES, BOOTSTRAP_FROM))]
    return _table([*head, f"R = {BOOTSTRAP_FROM}, BCa"], lines)


SPREADS = (0.005, 0.01, 0.02, 0.05)


def verdict_table() -> str:
    """Exact rates of verdicts on one comparison: identical cases, 5 % more work, and what is resolved."""
    lines = [
        [f"{100 * spread:g} %", str(processes)]
        + [f"{200 * called_slower(1.0, spread, processes):.2f} %"]
        + [f"{100 * called_slower(1.05, spread, processes):.1f} %"]
        + [f"{100 * (resolvable(spread, processes, among=k) - 1):.1f} %" for k in (1, 7)]
        for spread in SPREADS
        for processes in PROCESSES
    ]
    head = ["spread", "processes", "identical: called different", "5 % slower: called SLOWER",
            "called SLOWER in 95 %: from", "the same among 7"]  # fmt: skip
    return _table(head, lines)


def main() -> None:
    """Write both tables."""
    folder = ROOT / "results" / "reference" / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    assert MARGIN == 0.01, "the page says 1 %"
    (folder / "coverage.md").write_text(coverage_table(), encoding="utf-8")
    (folder / "verdicts.md").write_text(verdict_table(), encoding="utf-8")


if __name__ == "__main__":
    main()
