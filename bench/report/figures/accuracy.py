"""Accuracy against parameters: what a net keeps, and at what size."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...stats import mean_interval
from .. import units
from . import axes
from .layout import Drawing, Drawn
from .rows import Panel, of_metric, panels
from .spec import Spec


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each subject and data set; a point for each variant, the mean over seeds with its interval."""
    metric = spec.only(["accuracy"])[0]
    accuracy = of_metric(df, metric)
    params = df[(df["metric"] == "params") & (df["status"] == "ok")].drop_duplicates("case_id")
    count = params.set_index("case_id")["value"].astype(float)
    accuracy = accuracy.assign(params=accuracy["case_id"].map(count)).dropna(subset=["params"])
    made, found = panels(accuracy, paths=False, most=spec.panels)
    drawn = [
        Drawn(panel.subject, _title(panel), partial(_panel, panel=panel, metric=metric), 1.15)
        for panel in made
        if len(panel.rows)
    ]
    return Drawing(drawn, found=found, lacks=f"{metric} and params of trainings")


def _title(panel: Panel) -> str:
    seeds = int(panel.rows.groupby("variant")["seed"].nunique().min())
    return f"{panel.title}, {seeds} seed{'s' if seeds > 1 else ''}"


def _panel(axis: Axes, panel: Panel, metric: str) -> None:
    rows = panel.rows
    scale = units.scale(metric, rows["value"].tolist())
    axis.margins(0.14)
    for name, look in axes.looks(rows).items():
        seeds = rows[rows["variant"] == name]
        found = mean_interval((seeds["value"] / scale.factor).tolist())
        at = [float(seeds["params"].mean())]
        axes.points(axis, at, [found.value], [found.lo], [found.hi], look, str(name), line=False)
    size = units.scale("params", rows["params"].tolist())
    axes.log_steps(axis, rows["params"].tolist(), factor=size.factor)
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set(xlabel=size.label("parameters"), ylabel=scale.label(units.name_of(metric)))
