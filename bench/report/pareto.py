"""Pareto fronts: which variants no other beats in both accuracy and a cost. Functions over the tidy table.

Accuracy comes from trainings, latency and memory from the same net measured by itself (an entry of the sweep without
data); the two meet by subject, variant and shape, whatever the batch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..metrics import METRICS
from ..store.folder import write_whole
from .trained import headline, mean

# the costs that accuracy is weighed against; a cost that nothing measured has no panel
COSTS = ("params", "macs", "latency", "peak_bytes")


@dataclass(frozen=True)
class Point:
    """A variant at one cost: the mean of its metric over seeds, with its interval."""

    variant: str
    algebra: str
    n: int
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


COLUMNS = ("env_id", "subject", "data", "recipe", "metric", "cost", "variant", "algebra", "n", "cost_value", "value",
           "lo", "hi", "seeds", "on_front")  # fmt: skip


def fronts(df: pd.DataFrame) -> pd.DataFrame:
    """Every variant of every trained subject at every cost that was measured, and whether it is on the front.

    Columns: COLUMNS. Trainings and costs are those of one machine. A net that was converted from a trained one is no
    point: it has cost the training of a real one, too.
    """
    lines: list[dict[str, Any]] = []
    trained = df[(df["data"] != "none") & (df["status"] == "ok")]
    if len(trained):
        costs = df[df["metric"].isin(COSTS) & (df["status"] == "ok") & df["subject"].isin(trained["subject"])]
        costs = costs.assign(place=_places(costs))
        trained = trained.assign(place=_places(trained))
        trained["subject"] = trained["subject"].mask(trained["twin"] != "", trained["twin"])
        for keys, rows in trained.groupby(list(_TOGETHER), sort=False):
            named = dict(zip(_TOGETHER, map(str, keys), strict=True))
            if json.loads(named["recipe"]).get("start") != "project":
                lines += _fronts(named, rows, costs[costs["env_id"] == named["env_id"]])
    return pd.DataFrame(lines, columns=list(COLUMNS))


_TOGETHER = ("env_id", "subject", "data", "recipe")


def _fronts(keys: dict[str, str], rows: pd.DataFrame, costs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    metric = headline(rows)
    rows = rows[(rows["metric"] == metric) & rows["value"].notna()]
    for cost in COSTS:
        points = _points(rows, _costs(costs, cost), metric)
        ends = on_front(list(points), METRICS[metric].better == "higher")
        for (point, seeds), front in zip(points.items(), ends, strict=True):
            told = {"cost_value": point.cost, "seeds": seeds, "on_front": front}
            named = {name: getattr(point, name) for name in ("variant", "algebra", "n", "value", "lo", "hi")}
            yield {**keys, "metric": metric, "cost": cost, **named, **told}


def _places(rows: pd.DataFrame) -> pd.Series[Any]:
    """What a training shares with the same net measured by itself: subject, variant, path, shape but the batch."""
    bare = {shape: _without_batch(shape) for shape in rows["shape"].unique()}
    places = zip(rows["subject"], rows["variant"], rows["path"], rows["shape"].map(bare), strict=True)
    return pd.Series(list(places), index=rows.index, dtype=object)


def _without_batch(shape: str) -> str:
    return json.dumps({axis: value for axis, value in json.loads(shape).items() if axis != "batch"}, sort_keys=True)


Costs = Mapping[Any, float]  # by place


def _costs(rows: pd.DataFrame, cost: str) -> Costs:
    """Place → cost. Of several measurements the one in inference on the smallest batch."""
    rows = rows[rows["metric"] == cost]
    rows = rows.assign(trained=rows["data"] != "none", step=rows["phase"] != "infer")
    rows = rows.sort_values(["trained", "step", "batch"], kind="stable").drop_duplicates("place")
    return dict(zip(rows["place"], rows["value"].astype(float), strict=True))


def _points(rows: pd.DataFrame, costs: Costs, metric: str) -> dict[Point, int]:
    """Each point with its number of seeds."""
    points = {}
    for place, seeds in rows.groupby("place", sort=False):
        if place not in costs:
            continue
        found = mean(metric, seeds["value"].astype(float).tolist())
        first = seeds.iloc[0]
        algebra = str(first["algebra"]) if first["control"] == "none" else "slim real"
        named = (str(first["variant"]), algebra, int(first["n"]))
        points[Point(*named, costs[place], found.value, found.lo, found.hi)] = len(seeds)
    return points


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write pareto.csv where anything was trained; nothing otherwise."""
    found = fronts(df)
    if found.empty:
        return []
    path = folder / "pareto.csv"
    write_whole(path, functools.partial(found.to_csv, index=False))
    return [path]
