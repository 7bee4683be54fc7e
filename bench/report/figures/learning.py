"""Learning curves: the mean over seeds after each epoch, with its interval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...stats import mean_intervals, process_intervals
from .. import units
from . import axes
from .layout import Drawing, Drawn
from .rows import Panel, of_metric, panels
from .spec import Spec

_NOTE = "Lines: means over seeds, on a logarithmic axis geometric ones; bands: intervals of 95 % for the mean."


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each subject, data set and quantity that was kept by epoch; spec.metrics names some of them."""
    trainings = _trainings(df)
    made, found = panels(trainings, most=spec.panels)
    looks = axes.looks(trainings)
    drawn = []
    for panel in made:
        curves = panel.rows.assign(curve=panel.rows["details"].map(_curves))
        kept = dict.fromkeys(name for curve in curves["curve"] for name, values in curve.items() if len(values) > 1)
        for quantity in [name for name in spec.only([n for n in kept if _usual(n)]) if name in kept]:
            own = curves[[len(curve.get(quantity, ())) > 1 for curve in curves["curve"]]]
            draw_one = partial(_panel, rows=own, quantity=quantity, spec=spec, looks=looks)
            drawn.append(Drawn(panel.subject, _title(panel, own), draw_one))
    return Drawing(drawn[: spec.panels], _NOTE, max(found, len(drawn)), "trainings with a curve")


def _trainings(df: pd.DataFrame) -> pd.DataFrame:
    """One row for each training, the one of its metrics that holds the curve."""
    held = df[(df["data"] != "none") & (df["status"] == "ok")]
    held = held[held["details"].str.contains('"curve"|"losses"', regex=True, na=False)]
    held = held.drop_duplicates(["case_id", "env_id"])
    rows = [of_metric(held, metric, details=True, trained=True) for metric in held["metric"].unique()]
    return pd.concat(rows) if rows else of_metric(held, "train_loss", details=True)


def _usual(quantity: str) -> bool:
    return quantity == "train_loss" or (quantity.startswith("val_") and quantity.removeprefix("val_") in _SHOWN)


_SHOWN = ("loss", "accuracy", "sed_score", "mse", "rule_distance")  # of what is validated


def _title(panel: Panel, rows: pd.DataFrame) -> str:
    seeds = rows.groupby("variant")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return f"{panel.title}, {count} seed{'s' if seeds.max() > 1 else ''}"


def _curves(details: str) -> Mapping[str, list[float]]:
    """quantity → its value after each epoch; ``losses`` is the training loss, ``curve`` a list of epochs."""
    told: dict[str, Any] = json.loads(details or "{}")
    curve = told.get("curve")
    if not isinstance(curve, list) or not curve:
        losses = told.get("losses")
        return {"train_loss": [float(loss) for loss in losses]} if isinstance(losses, list) else {}
    names = [name for name, value in curve[0].items() if name != "epoch" and isinstance(value, int | float)]
    return {name: [float(epoch[name]) for epoch in curve] for name in names if all(name in epoch for epoch in curve)}


def _name(quantity: str) -> str:
    metric = quantity.removeprefix("val_")
    return units.name_of(quantity) if metric == quantity else f"validation {metric.replace('_', ' ')}"


def _panel(axis: Axes, rows: pd.DataFrame, quantity: str, spec: Spec, looks: axes.Looks) -> None:
    drawn = {}
    for name, of_variant in rows.groupby("variant", sort=False):
        seeds = [curve[quantity] for curve in of_variant["curve"]]
        shortest = min(map(len, seeds))
        drawn[str(name)] = np.array([seed[:shortest] for seed in seeds], dtype=float)
    metric = quantity.removeprefix("val_")
    scale = axes.measure(
        axis, metric, [float(mean) for curves in drawn.values() for mean in curves.mean(axis=0)], spec.scale
    )
    for name, curves in drawn.items():
        own = looks[name]
        # on a logarithmic axis an interval of the values themselves may reach below 0, and out of sight
        geometric = axis.get_yscale() == "log" and bool((curves > 0).all())
        intervals = process_intervals(curves.T) if geometric else mean_intervals(curves.T)
        at, (mean, lo, hi) = np.arange(1, curves.shape[1] + 1), intervals.T / scale.factor
        every = max(1, len(at) // 8)
        axis.plot(at, mean, color=own.colour, marker=own.marker, fillstyle=own.fill, linestyle=own.dash,
                  markevery=every, label=axes.label(str(name)))  # fmt: skip
        if len(curves) > 1:
            axis.fill_between(at, lo, hi, color=own.colour, alpha=0.13, linewidth=0)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel(scale.label(_name(quantity)))
