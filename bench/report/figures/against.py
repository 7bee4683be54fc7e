"""A metric against n, channels or any other number: a line for each algebra or variant, with intervals."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from .. import units
from . import axes
from .layout import Drawing, Drawn
from .rows import Panel, of_metric, one_each, panels
from .spec import Spec

_AXIS = {"n": "n"}


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """Panels of each metric, those of one subject side by side; at the widest channels where x is n."""
    but = [spec.x, "out_channels"] + (["channels"] if spec.x == "n" else [])
    hue = spec.hue if spec.hue != "auto" else "algebra" if spec.x == "n" else "variant"
    made: list[tuple[tuple[str, ...], Drawn]] = []
    found = 0
    metrics = spec.only(["latency"])
    of = {metric: of_metric(df, metric) for metric in metrics}
    looks = axes.looks(pd.concat([rows.drop_duplicates("variant") for rows in of.values()]))
    for metric, rows in of.items():
        rows = rows[rows[spec.x].notna()]
        own, count = panels(rows, but, x=spec.x, least=spec.least, most=max(1, spec.panels // len(metrics)))
        found += count
        for panel in own:
            key = _key(panel, spec.x, hue)
            ready = _ready(panel, spec, key)
            if ready is not None:
                draw_one = partial(_panel, panel=ready, metric=metric, spec=spec, key=key, looks=looks)
                made.append(((panel.subject, *panel.names), Drawn(panel.subject, ready.title, draw_one)))
    order = {key: index for index, key in reversed(list(enumerate(key for key, _ in made)))}
    made.sort(key=lambda one: order[one[0]])  # stable: the metrics of one panel side by side
    return Drawing(
        [drawn for _, drawn in made], found=found, lacks=f"{metrics[0]} at {spec.least} values of {spec.x}"
    )


def _key(panel: Panel, x: str, hue: str) -> str:
    """What has a line of its own: the algebra, but where one has several variants at a value of x."""
    several = (panel.rows.groupby(["look", x, "channels"], dropna=False)["variant"].nunique() > 1).any()
    return "look" if hue == "algebra" and not several else "variant"


def _ready(panel: Panel, spec: Spec, key: str) -> Panel | None:
    rows, failed, names = panel.rows, panel.failed, panel.names
    if spec.x == "n" and rows["channels"].notna().any():
        widest = rows["channels"].max()
        rows, failed = rows[rows["channels"] == widest], failed[failed["channels"] == widest]
        names = (*names, f"{widest} channels")
    if rows[spec.x].nunique() < spec.least or not rows["value"].any():
        return None
    return Panel(panel.subject, names, one_each(rows, [key, spec.x]), failed)


def _panel(axis: Axes, panel: Panel, metric: str, spec: Spec, key: str, looks: axes.Looks) -> None:
    rows = panel.rows
    ends = pd.concat([rows["value"], rows["lo"].dropna(), rows["hi"].dropna()])
    scale = axes.measure(axis, metric, ends.tolist(), spec.scale)
    levels = pd.concat([rows[spec.x], panel.failed[spec.x]]) if len(panel.failed) else rows[spec.x]
    axes.steps(axis, levels.astype(float), _AXIS.get(spec.x, units.name_of(spec.x)))
    axes.lines(axis, rows, panel.failed, spec.x, key, scale.factor, looks)
