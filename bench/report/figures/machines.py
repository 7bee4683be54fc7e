"""Machines beside each other: is what holds here true there?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from .. import style, units
from ..varying import machines
from . import axes
from .layout import Drawing, Drawn
from .rows import of_metric
from .spec import Spec

_NOTE = (
    "Points: geometric means over the groups that all variants and machines shown have; bars: those of a lone one."
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each subject and phase that two machines measured; a row for each variant."""
    metric = spec.only(["latency_ratio"])[0]
    rows = of_metric(df, metric)
    rows = rows[rows["good"] & (rows["value"] > 0) & ((metric != "latency_ratio") | (rows["look"] != "real"))]
    drawn = []
    for (subject, phase), of_phase in rows.groupby(["subject", "phase"], sort=False):
        path = next((p for p in ("auto", "tuned", "dense", "none") if (of_phase["path"] == p).any()), None)
        own = _shared(of_phase[of_phase["path"].isin([path, "none"])])
        if own is None:
            continue
        groups = own["group_id"].nunique()
        title = f"{subject}, {str(phase).replace('_', ' ')}, {groups} group{'s' if groups > 1 else ''} of cases"
        height = max(0.7, 0.13 * own["variant"].nunique() + 0.3)
        drawn.append(Drawn(str(subject), title, partial(_panel, rows=own, metric=metric), height))
    return Drawing(drawn[: spec.panels], _NOTE, len(drawn), f"{metric} on two machines")


def _shared(rows: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of the groups that every variant has on every machine, or None where there is none."""
    rows = rows.drop_duplicates(["variant", "env_id", "group_id"])
    # what a machine has none of is in no comparison; a variant that another machine lacks is left out of it
    lacking = rows.groupby("variant")["env_id"].nunique() < rows["env_id"].nunique()
    rows = rows[~rows["variant"].isin(lacking[lacking].index)]
    if rows["env_id"].nunique() < 2:
        return None
    per_group = rows.groupby("group_id").size()
    whole = per_group[per_group == rows["variant"].nunique() * rows["env_id"].nunique()].index
    rows = rows[rows["group_id"].isin(whole)]
    return rows if len(rows) else None


def _panel(axis: Axes, rows: pd.DataFrame, metric: str) -> None:
    order = list(rows.sort_values(["n", "look", "variant"], kind="stable")["variant"].unique())
    short = machines(rows["env_id"])
    single = rows["group_id"].nunique() == 1
    scale = units.scale(metric, rows["value"].tolist())
    step = min(0.2, 0.7 / len(short))
    logs = rows.assign(log=np.log(rows["value"])).groupby(["env_id", "variant"])["log"].mean()
    shown = [1.0] if metric == "latency_ratio" else []
    for index, (env, name) in enumerate(short.items()):
        own: pd.Series[float] = np.exp(logs.xs(env, level="env_id"))
        shown += (own / scale.factor).tolist()
        at = [order.index(variant) + step * (index - (len(short) - 1) / 2) for variant in own.index]
        lo = hi = np.full(len(own), np.nan)
        if single:
            of_env = rows[rows["env_id"] == env].set_index("variant").loc[own.index]
            lo, hi = of_env["lo"].to_numpy() / scale.factor, of_env["hi"].to_numpy() / scale.factor
        look = style.Look(style.look(env).colour, _MARKERS[index % len(_MARKERS)], "none" if index % 2 else "full")
        axes.points(axis, at, own.to_numpy() / scale.factor, lo, hi, look, name, line=False, sideways=True)
    axes.log_steps(axis, shown)
    axis.margins(x=0.06)
    if metric == "latency_ratio":
        axis.axvline(1.0, color="0.45", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    axis.yaxis.set_major_locator(FixedLocator(list(range(len(order)))))
    axis.yaxis.set_major_formatter(FixedFormatter([axes.label(str(name), 24) for name in order]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.set_xlabel(scale.label(units.name_of(metric)))
