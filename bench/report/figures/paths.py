"""Contraction paths beside each other: the same function, computed in several ways."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from phnn.plan import PATHS

from . import axes
from .layout import Drawing, Drawn
from .rows import Panel, of_metric, one_each, panels
from .spec import Spec

_ORDER = ("kron", *(path for path in PATHS if path != "kron"), "auto", "tuned")


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each shape that was timed along two paths or more: latency over the real layer's."""
    metric = spec.only(["latency_ratio"])[0]
    rows = of_metric(df, metric)
    # a path has its own best memory format; the panel says which it is
    made, found = panels(rows[rows["path"] != "none"], x="path", least=spec.least, most=spec.panels)
    looks = axes.looks(rows)
    drawn = [
        Drawn(panel.subject, panel.title, partial(_panel, panel=panel, metric=metric, spec=spec, looks=looks))
        for panel in made
    ]
    return Drawing(drawn, found=found, lacks=f"{metric} along {spec.least} paths")


def _panel(axis: Axes, panel: Panel, metric: str, spec: Spec, looks: axes.Looks) -> None:
    both = pd.concat([panel.rows, panel.failed]) if len(panel.failed) else panel.rows
    order = [*_ORDER, *sorted(set(both["path"]) - set(_ORDER))]
    order = [path for path in order if path in set(both["path"])]
    rows = one_each(panel.rows, ["variant", "path"])
    ends = pd.concat([rows["value"], rows["lo"].dropna(), rows["hi"].dropna()])
    scale = axes.measure(axis, metric, ends.tolist(), spec.scale)
    present = both["variant"].drop_duplicates().tolist()
    step = min(0.14, 0.7 / len(present))
    for index, name in enumerate(present):
        look, shift = looks[name], step * (index - (len(present) - 1) / 2)
        own = rows[rows["variant"] == name]
        if len(own):
            at = [order.index(path) + shift for path in own["path"]]
            value, lo, hi = (own[column].to_numpy() / scale.factor for column in ("value", "lo", "hi"))
            axes.points(axis, at, value, lo, hi, look, str(name), line=False)
        lost = panel.failed[panel.failed["variant"] == name]
        for status, of_status in lost.groupby("status", sort=False):
            axes.foot(axis, [order.index(path) + shift for path in of_status["path"]], str(status), look.colour)
    axis.xaxis.set_major_locator(FixedLocator(list(range(len(order)))))
    axis.xaxis.set_major_formatter(FixedFormatter(order))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(-0.5, len(order) - 0.5)
    axis.grid(visible=False, axis="x")
    axis.set_xlabel("path")
