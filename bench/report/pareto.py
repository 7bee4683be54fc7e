"""Pareto fronts: which variants no other beats in both accuracy and a cost. Functions over the tidy table.

Accuracy comes from trainings, latency and memory from the same net measured by itself (an entry of the sweep without
data); the two meet by subject, variant and shape, whatever the batch.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from ..metrics import METRICS
from ..stats import mean_interval
from ..store import write_whole
from . import style
from .trained import MAGNITUDES, PERCENT, headline

# the costs that accuracy is weighed against; a cost that nothing measured has no panel
COSTS = ("params", "macs", "latency", "peak_bytes")
_LABELS = {"params": ("parameters", ""), "macs": ("multiply-adds", ""), "latency": ("latency", "s"),
           "peak_bytes": ("peak memory", "B")}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A variant at one cost: the mean of its metric over seeds, with its interval."""

    variant: str
    look: str
    cost: float
    value: float
    lo: float
    hi: float


def on_front(points: Sequence[Point], higher: bool) -> list[bool]:
    """Whether no other point is at least as good in both and better in one; by the means, not their intervals."""
    sign = 1 if higher else -1

    def beats(a: Point, b: Point) -> bool:
        no_worse = a.cost <= b.cost and sign * a.value >= sign * b.value
        return no_worse and (a.cost < b.cost or sign * a.value > sign * b.value)

    return [not any(beats(other, own) for other in points) for own in points]


def fronts(df: pd.DataFrame) -> pd.DataFrame:
    """Every variant of every trained subject at every cost that was measured, and whether it is on the front.

    Columns: env_id, subject, data, metric, cost, variant, look, cost_value, value, lo, hi, on_front.
    """
    lines: list[dict[str, Any]] = []
    ok = df[df["status"] == "ok"] if len(df) else df
    ok = ok.assign(subject=ok["twin"].where(ok["twin"] != "", ok["subject"]), place=_places(ok))
    keys = ["env_id", "subject", "data", "recipe"]
    for (env_id, subject, data, recipe), rows in ok[ok["data"] != "none"].groupby(keys, sort=False):
        metric = headline(rows)
        higher = METRICS[metric].better == "higher"
        if (
            json.loads(str(recipe)).get("start") == "project"
        ):  # a converted net has cost the training of a real one, too
            continue
        for cost in COSTS:
            points = _points(rows[rows["metric"] == metric], _costs(ok[ok["env_id"] == env_id], cost))
            for point, front in zip(points, on_front(points, higher), strict=True):
                lines.append({"env_id": env_id, "subject": subject, "data": data,
                              "metric": metric, "cost": cost, "on_front": front,
                              "variant": point.variant, "look": point.look, "cost_value": point.cost,
                              "value": point.value, "lo": point.lo, "hi": point.hi})  # fmt: skip
    columns = [
        "env_id",
        "subject",
        "data",
        "metric",
        "cost",
        "variant",
        "look",
        "cost_value",
        "value",
        "lo",
        "hi",
        "on_front",
    ]
    return pd.DataFrame(lines, columns=columns)


def _places(rows: pd.DataFrame) -> pd.Series[str]:
    """What a training shares with the same net measured by itself: subject, variant, path, shape but the batch."""
    return pd.Series(
        [
            json.dumps([subject, variant, path, _without_batch(shape)], sort_keys=True)
            for subject, variant, path, shape in zip(
                rows["subject"], rows["variant"], rows["path"], rows["shape"], strict=True
            )
        ],
        index=rows.index,
        dtype=str,
    )


def _without_batch(shape: str) -> dict[str, Any]:
    return {axis: value for axis, value in json.loads(shape).items() if axis != "batch"}


def _costs(ok: pd.DataFrame, cost: str) -> dict[str, float]:
    """Place → cost. Of several measurements the one in inference on the smallest batch."""
    rows = ok[ok["metric"] == cost].copy()
    rows["trained"] = rows["data"] != "none"
    rows["step"] = rows["phase"] != "infer"
    rows = rows.sort_values(["trained", "step", "batch"], kind="stable").drop_duplicates("place")
    return dict(zip(rows["place"], rows["value"].astype(float), strict=True))


def _points(rows: pd.DataFrame, costs: dict[str, float]) -> list[Point]:
    points = []
    for place, seeds in rows.groupby("place", sort=False):
        if place not in costs:
            continue
        found = mean_interval(seeds["value"].astype(float).tolist())
        first = seeds.iloc[0]
        look = first["algebra"] if first["control"] == "none" else "slim real"
        points.append(Point(str(first["variant"]), str(look), costs[str(place)], found.value, found.lo, found.hi))
    return points


# ------------------------------------------------------------------------------------------------ figure and table


def pareto_fronts(df: pd.DataFrame) -> Figure | None:
    """A row of panels for each trained subject: its metric against each cost, the front as a staircase."""
    found = fronts(df)
    if found.empty:
        return None
    rows = list(found.groupby(["env_id", "subject", "data"], sort=False))
    machines = found["env_id"].nunique()
    costs = [cost for cost in COSTS if (found["cost"] == cost).any()]
    width = style.COLUMN if len(costs) == 1 else style.PAGE
    figure, axes = plt.subplots(len(rows), len(costs), figsize=(width, 1.9 * len(rows) + 0.4), squeeze=False)
    for line, ((env_id, subject, data), own) in zip(axes, rows, strict=True):
        for axis, cost in zip(line, costs, strict=True):
            points = own[own["cost"] == cost]
            axis.set_visible(len(points) > 0)
            if len(points):
                _panel(axis, points, cost)
                axis.set_title(f"{subject} on {data}" + (f"\n{env_id}" if machines > 1 else ""))
    _legend(figure, list(axes.flat))
    return figure


def _panel(axis: Axes, points: pd.DataFrame, cost: str) -> None:
    metric = points["metric"].iloc[0]
    scale = 100 if metric in PERCENT else 1
    colours, markers = style.looks(list(points["look"].unique()))
    axis.margins(0.15)
    rows: list[dict[Any, Any]] = points.to_dict("records")
    for row in rows:
        look, place = row["look"], (row["cost_value"], scale * row["value"])
        reach = 0.0 if math.isnan(row["lo"]) or metric in MAGNITUDES else scale * (row["hi"] - row["lo"]) / 2
        axis.errorbar(
            *place, yerr=reach, color=colours[look], marker=markers[look], linestyle="none", capsize=2,
            elinewidth=0.7, label=look, fillstyle="full" if row["on_front"] else "none",
        )  # fmt: skip
        if look == "ph":
            axis.annotate(
                row["variant"].removeprefix("ph "), place, xytext=(4, 3), textcoords="offset points", fontsize=6,
                color=colours[look],
            )  # fmt: skip
    front = points[points["on_front"]].sort_values("cost_value")
    axis.step(front["cost_value"], scale * front["value"], where="post", color="0.6", linewidth=0.8, zorder=0)
    label, unit = _LABELS[cost]
    axis.set(xlabel=label, ylabel=f"{metric} (%)" if scale == 100 else metric.replace("_", " "), xscale="log")
    if metric in MAGNITUDES:
        axis.set_yscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(EngFormatter(unit, sep=" " if unit else ""))


def _legend(figure: Figure, axes: list[Axes]) -> None:
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write pareto.csv where anything was trained; nothing otherwise."""
    found = fronts(df)
    if found.empty:
        return []
    path = folder / "pareto.csv"
    write_whole(path, functools.partial(found.drop(columns="look").to_csv, index=False))
    return [path]
