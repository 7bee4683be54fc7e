"""Pareto fronts: what a net reaches against what it costs, and which ones no other beats in both."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .. import units
from ..pareto import COSTS, fronts
from ..trained import MAGNITUDES
from ..varying import differing, machines
from . import axes
from .layout import Drawing, Drawn
from .spec import Spec

_NOTE = "Grey line: the front, by the means over seeds. Pale: what another net beats in both."
_PALE = 0.4


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each trained subject and data set against each cost; spec.metrics names some of the costs."""
    found = fronts(df)
    found = found[found["cost"].isin(spec.only(COSTS))]
    of_data = found.groupby(["env_id", "subject", "data"], sort=False)["recipe"]
    found = found.assign(told=of_data.transform(lambda recipes: differing(recipes)))
    looks = axes.looks(found.assign(look=found["algebra"]))
    short = machines(found["env_id"])
    drawn = []
    for keys, rows in found.groupby(["env_id", "subject", "data", "told", "cost"], sort=False):
        env_id, subject, data, told, cost = map(str, keys)
        if len(rows) < spec.least:
            continue
        seeds = rows["seeds"].min()
        names = [f"{subject} on {data}", told, short[env_id] if len(short) > 1 else ""]
        title = ", ".join(filter(None, [*names, f"{seeds} seed{'s' if seeds > 1 else ''}"]))
        drawn.append(Drawn(f"{subject}_on_{data}", title, partial(_panel, rows=rows, cost=cost, looks=looks), 1.1))
    return Drawing(drawn[: spec.panels], _NOTE, len(drawn), f"{spec.least} variants with accuracies and costs")


def _panel(axis: Axes, rows: pd.DataFrame, cost: str, looks: axes.Looks) -> None:
    metric = rows["metric"].iloc[0]
    scale = units.scale(metric, rows["value"].tolist())
    size = units.scale(cost, rows["cost_value"].tolist())
    front = rows[rows["on_front"]].sort_values("cost_value")
    axis.step(front["cost_value"], front["value"] / scale.factor, where="post", color="0.6", linewidth=0.8, zorder=0)
    told: list[dict[Any, Any]] = rows.to_dict("records")
    for row in told:
        value, lo, hi = (row[key] / scale.factor for key in ("value", "lo", "hi"))
        axes.points(
            axis, [row["cost_value"]], [value], [lo], [hi], looks[row["variant"]], str(row["variant"]), line=False,
            alpha=1.0 if row["on_front"] else _PALE,
        )  # fmt: skip
    ends = pd.concat([rows["value"], rows["lo"].dropna(), rows["hi"].dropna()]) / scale.factor
    if metric in MAGNITUDES and (ends > 0).all():
        axes.log_steps(axis, ends.tolist(), "y")
    else:
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.margins(0.14)
    axes.log_steps(axis, rows["cost_value"].tolist(), factor=size.factor)
    axis.set(xlabel=size.label(units.name_of(cost)), ylabel=scale.label(units.name_of(metric)))
