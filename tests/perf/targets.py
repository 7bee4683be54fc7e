"""A timing target of an issue: what is measured, the bar, and the interval it came out with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.stats import Interval


@dataclass(frozen=True)
class Target:
    """name: what a person reads; bar: the value that the estimate must not exceed; measure: takes the figure."""

    name: str
    unit: str
    bar: float
    measure: Callable[[], Interval]

    def line(self, found: Interval) -> str:
        """One printed line; missed only when the whole interval lies beyond the bar."""
        verdict = "met" if found.value <= self.bar else "missed" if not found.lo <= self.bar else "can't tell"
        interval = f"[{found.lo:.3g}, {found.hi:.3g}]"
        return f"{verdict:<10} {self.name}: {found.value:.3g} {interval} {self.unit}, bar {self.bar:g}"
