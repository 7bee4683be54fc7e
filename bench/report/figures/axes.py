"""What several figures draw: lines with intervals, failures, logarithmic and linear axes with units."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .. import style, units

# why there is no figure, by the mark that stands at the foot of the axes in its place
FAILED = {"oom": "x", "timeout": "+", "crashed": "1", "wrong": "2", "error": "3", "unsupported": "4"}

FOOT = "0.35"  # of these marks in a legend, which stands for any colour

_LOG_FROM = 10  # largest over smallest: from here on a linear axis would hide the small ones


def label(text: str, width: int = 44) -> str:
    """A name as a legend shows it: in lines, and never taken for a private one."""
    lines = textwrap.wrap(" ".join(text.split()), width, break_long_words=True, max_lines=3, placeholder=" …")
    shown = "\n".join(lines) or "(no name)"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib hides names that begin so


def steps(axis: Axes, values: Iterable[float], name: str) -> None:
    """A logarithmic axis of widths or dimensions: a tick at each value measured, and no other."""
    ticks = sorted({float(value) for value in values})
    if ticks[0] > 0:
        axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(ticks) == 1 and ticks[0] > 0:
        axis.set_xlim(ticks[0] / 2, ticks[0] * 2)
    axis.set_xlabel(name)


def log_steps(axis: Axes, values: Sequence[float], which: str = "x", factor: float = 1) -> None:
    """A logarithmic axis of any numbers, labelled in units of ``factor``."""
    ticks = log_ticks(min(values) / factor, max(values) / factor)  # round in the unit that is read
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    own = axis.xaxis if which == "x" else axis.yaxis
    own.set_major_locator(FixedLocator([tick * factor for tick in ticks]))
    own.set_minor_locator(NullLocator())
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value / factor:.6g}"))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers around and between two positive ones, the coarsest steps that leave three of them between."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    found: list[float] = []
    for subs in (_EVERY_DECADE, (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [float(f"{sub}e{decade}") for decade in decades for sub in subs]
        if sum(low <= tick <= high for tick in found) >= 3:
            break
    else:
        found = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if tick > 0]
    if len(decades) > 10:  # more decades than labels fit
        found = found[:: math.ceil(len(decades) / 8)]
    return found


_EVERY_DECADE = (1,)


def measure(axis: Axes, metric: str, values: Sequence[float], kind: str = "auto") -> units.Scale:
    """The axis of a metric: logarithmic where its values span a decade, else linear from 0; the unit is in the label.

    Gives the scale in which values are to be drawn.
    """
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    wide = len(positive) == len(finite) and bool(positive) and max(positive) / min(positive) >= _LOG_FROM
    logarithmic = (kind == "log" and bool(positive)) or (kind == "auto" and wide)
    scale = units.scale(metric, finite if logarithmic else [max(finite, default=1.0)])
    if logarithmic:
        log_steps(axis, [value / scale.factor for value in positive], "y")
        axis.margins(y=0.08)
    else:
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        if all(value >= 0 for value in finite):
            reach = max((value / scale.factor for value in finite), default=1.0) or 1.0
            top = 1.12 * max(reach, 1.07 if metric == "latency_ratio" else 0.0)
            axis.set_ylim(-0.04 * top if min(finite, default=1.0) == 0 else 0, top)  # a marker at 0 is seen whole
    if metric == "latency_ratio":
        axis.axhline(1.0, color="0.45", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    axis.set_ylabel(scale.label(units.name_of(metric)))
    return scale


def _aside(both: pd.DataFrame, x: str, hue: str) -> pd.Series[float]:
    """x, moved so that the series that share a tick stand side by side, within a third of the space between ticks."""
    levels = np.array(sorted(set(both[x].astype(float))))
    order = {name: index for index, name in enumerate(both[hue].unique())}
    if levels[0] <= 0:
        return both[x].astype(float)
    space = float(np.diff(np.log2(levels)).min()) if len(levels) > 1 else 1.0
    rank = both[hue].map(order).groupby(both[x]).rank(method="dense") - 1
    count = rank.groupby(both[x]).transform("max") + 1
    most = max(2.0, float(count.max()))
    # as wide as the markers of the panel, where there is room
    step = min(0.02 * (np.log2(levels[-1] / levels[0]) + 0.5), space / 3 / most)
    return both[x].astype(float) * 2 ** (step * (rank - (count - 1) / 2))


def lines(
    axis: Axes, rows: pd.DataFrame, failed: pd.DataFrame, x: str, hue: str, factor: float, looks: Looks
) -> None:
    """A line with intervals for each variant, in the looks of its algebra; failures at the foot, in its colour."""
    kept = list(dict.fromkeys([hue, x, "look", "n", "value", "lo", "hi", "status"]))
    both = pd.concat([rows[kept], failed[kept]], ignore_index=True)
    both = both.assign(at=_aside(both, x, hue), good=np.arange(len(both)) < len(rows)).sort_values(x, kind="stable")
    groups = [(str(name), own) for name, own in both.groupby(hue, sort=False)]
    for name, own in groups:
        look = looks[name] if hue == "variant" else style.look(name)
        good = own["good"].to_numpy()
        at = own["at"].to_numpy(dtype=float)
        if good.any():
            value, lo, hi = (own[column].to_numpy(dtype=float)[good] / factor for column in ("value", "lo", "hi"))
            points(axis, at[good], value, lo, hi, look, name, size=_FEW_SIZE if len(groups) <= _FEW else _MANY_SIZE)
        if not good.all():
            for status, of_status in own[~good].groupby("status", sort=False):
                foot(axis, of_status["at"].tolist(), str(status), look.colour)


_FEW, _FEW_SIZE, _MANY_SIZE = 14, 3.8, 2.4  # markers that would hide each other are smaller

Numbers = np.ndarray | Sequence[float]


def points(
    axis: Axes,
    x: Numbers,
    value: Numbers,
    lo: Numbers,
    hi: Numbers,
    look: style.Look,
    name: str,
    *,
    line: bool = True,
    sideways: bool = False,
    size: float = 3.8,
    alpha: float = 1.0,
) -> None:
    """One series with its intervals (NaN: none); sideways: values go along x."""
    value, lo, hi = (np.asarray(numbers, dtype=float) for numbers in (value, lo, hi))
    ends = np.nan_to_num([np.maximum(value - lo, 0), np.maximum(hi - value, 0)])
    bars: Any = ends if ends.any() else None
    axis.errorbar(
        value if sideways else x, x if sideways else value, xerr=bars if sideways else None,
        yerr=None if sideways else bars, label=label(name), color=look.colour, marker=look.marker,
        fillstyle=look.fill, linestyle=look.dash if line else "none", markersize=size, capsize=1.5, capthick=0.6,
        elinewidth=0.6, alpha=alpha,
    )  # fmt: skip


Looks = Mapping[str, style.Look]


def looks(rows: pd.DataFrame) -> Looks:
    """variant → its look, told from the others of these rows: those of a whole figure, whose legend is one."""
    first = rows.drop_duplicates("variant")
    wanted = [(str(look), int(n)) for look, n in zip(first["look"].tolist(), first["n"].tolist(), strict=True)]
    return dict(zip(first["variant"].astype(str), style.told_apart(wanted), strict=True))


def foot(axis: Axes, at: Sequence[float], status: str, colour: str) -> None:
    """Marks at the foot of the axes where there is no figure; the legend says why."""
    marker = FAILED.get(status, "x")
    axis.plot(
        at, [0.035] * len(at), marker=marker, color=colour, linestyle="none", markersize=4.5, markeredgewidth=0.9,
        transform=axis.get_xaxis_transform(), clip_on=False, zorder=5,
    )  # fmt: skip
    axis.plot([], [], marker=marker, color=FOOT, linestyle="none", markersize=4.5, markeredgewidth=0.9,
              label=label(status if status in FAILED else f"not measured: {status}"))  # fmt: skip
