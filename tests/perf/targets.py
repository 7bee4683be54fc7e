"""A timing target of an issue: what is measured, the bar, and the interval it came out with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.check.judge import state


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval (NaN where it was taken once), and a remark."""

    value: float
    lo: float = math.nan
    hi: float = math.nan
    remark: str = ""


@dataclass(frozen=True)
class Target:
    """name: what a person reads; bar: the value that the estimate must not exceed; measure: takes the figure."""

    name: str
    unit: str
    bar: float
    measure: Callable[[], Figure]

    def line(self, found: Figure) -> str:
        """One printed line: met or missed when the whole interval lies on one side of the bar."""
        verdict = state(found.value, found.lo, found.hi, self.bar)
        interval = "" if math.isnan(found.lo) else f" [{found.lo:.3g}, {found.hi:.3g}]"
        remark = f"  ({found.remark})" if found.remark else ""
        return f"{verdict:<10} {self.name}: {found.value:.3g}{interval} {self.unit}, bar {self.bar:g}{remark}"
