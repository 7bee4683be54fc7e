"""Speed-up over the real layer, variants × channels: where a hypercomplex layer pays."""

from __future__ import annotations

import math
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .. import style, units
from . import axes
from .layout import Drawing, Drawn
from .rows import Panel, of_metric, one_each, panels
from .spec import Spec

_NOTE = (
    "Speed-up: the real layer's latency over this one's, above 1 where this one is faster. In brackets: the interval "
    "does not tell it from the real layer's."
)


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A map for each subject and phase; rows are variants in the order of n, columns the values of x."""
    rows = of_metric(df, "latency_ratio")
    rows = _folded(rows[rows[spec.x].notna() & (rows["look"] != "real")], spec.x)
    made, found = panels(rows, [spec.x, "out_channels"], x=spec.x, least=spec.least, most=spec.panels)
    reach = max((_reach(panel.rows) for panel in made), default=0.5)
    drawn = [
        Drawn(panel.subject, panel.title, partial(_panel, panel=panel, x=spec.x, reach=reach), _height(panel))
        for panel in made
    ]
    return Drawing(drawn, _NOTE, found, f"latency_ratio at {spec.least} values of {spec.x}")


_MOST_ROWS = 12  # of one map, where some of them are what else was varied
_FOLDED = {"size": "size {:g}", "kernel_size": "kernel {:g}", "dtype": "{}", "memory_format": "{}"}


def _folded(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """Where a subject has few variants, what else varies becomes rows of one map: a map of one row is none.

    ``turn`` orders the rows of one variant.
    """
    made = [rows.assign(turn=0)] if not len(rows) else []
    for _, own in rows.groupby(["subject", "phase"], sort=False):
        keys: list[str] = []
        own, count = own.copy(), own["variant"].nunique()
        for key in (key for key in _FOLDED if key != x):
            levels = own[key].nunique()
            if levels > 1 and count * levels <= _MOST_ROWS and own[key].notna().all():
                count, keys = count * levels, [*keys, key]
        own["turn"] = own.groupby(keys).ngroup() if keys else 0
        for key in keys:
            own["variant"] = own["variant"] + ", " + own[key].map(_FOLDED[key].format)
            own[key] = own[key].iloc[0]
        made.append(own)
    return pd.concat(made)


def _reach(rows: pd.DataFrame) -> float:
    """The largest power of two on either side, at least a half and at most three: one scale for all panels."""
    largest = float(np.log2(rows["value"]).abs().max())
    return min(3.0, max(0.5, largest))


def _height(panel: Panel) -> float:
    return max(0.7, 0.14 * panel.rows["variant"].nunique() + 0.25)


def _panel(axis: Axes, panel: Panel, x: str, reach: float) -> None:
    both = pd.concat([panel.rows, panel.failed]) if len(panel.failed) else panel.rows
    order = both.sort_values(["n", "look", "turn", "variant"], kind="stable")["variant"].unique()
    columns = sorted(both[x].unique())
    good = one_each(panel.rows, ["variant", x])
    grid = good.assign(speedup=1 / good["value"]).pivot(index="variant", columns=x, values="speedup")
    grid = grid.reindex(index=order, columns=columns).astype(float)
    certain = ((good["lo"] > 1) | (good["hi"] < 1)).tolist()
    told = good.assign(text=[_text(1 / v, sure) for v, sure in zip(good["value"], certain, strict=True)])
    texts = told.pivot(index="variant", columns=x, values="text").reindex(index=order, columns=columns)
    size = max(6.0, mpl.rcParams["xtick.labelsize"] - 1 - 0.3 * max(0, len(columns) - 6))
    shades = np.ma.masked_invalid(np.log2(grid.to_numpy()) / reach)
    axis.pcolormesh(shades, cmap=style.FASTER_SLOWER, vmin=-1, vmax=1, edgecolors="white", linewidth=0.5)
    axis.set_ylim(len(order), 0)
    colours = mpl.colormaps[style.FASTER_SLOWER]((np.clip(shades.filled(0), -1, 1) + 1) / 2)
    for line, column in zip(*np.nonzero(~np.ma.getmaskarray(shades)), strict=True):
        dark = style.luminance(colours[line, column, :3]) < _MIDDLE
        axis.text(column + 0.5, line + 0.5, texts.iloc[line, column], ha="center", va="center", fontsize=size,
                  color="white" if dark else "black")  # fmt: skip
    for row in panel.failed.drop_duplicates(["variant", x]).itertuples():
        at = columns.index(getattr(row, x)) + 0.5, list(order).index(row.variant) + 0.5
        axis.text(
            *at, str(row.status), ha="center", va="center", fontsize=6, color="0.3", style="italic", clip_on=True
        )
    axis.set_facecolor("0.93")
    axis.grid(visible=False)
    axis.set_xticks(np.arange(len(columns)) + 0.5, [f"{float(value):g}" for value in columns])
    axis.set_yticks(np.arange(len(order)) + 0.5, [axes.label(str(name), 30) for name in order])
    axis.tick_params(length=0)
    axis.set(xlabel=units.name_of(x), ylabel="")


# the luminance that is as far from black as from white: sqrt(1.05 * 0.05) - 0.05
_MIDDLE = 0.18


def _text(speedup: float, certain: bool) -> str:
    text = f"{speedup:.2f}" if speedup < 9.995 else f"{speedup:.3g}"
    return text if certain or not math.isfinite(speedup) else f"({text})"
