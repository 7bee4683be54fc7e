"""Figures, each one function over the tidy table; None where the table holds nothing for it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..metrics import METRICS
from ..stats import mean_interval
from ..store import write_whole
from . import pareto, style
from .summary import varying


def _rows(df: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric that hold a number, as plain floats, algebras named as the legend names them."""
    rows = df[(df["metric"] == metric) & (df["status"] == "ok")].copy()
    for column in ("value", "lo", "hi"):
        rows[column] = rows[column].astype(float)
    rows["look"] = rows["algebra"].where(rows["control"] == "none", "slim real")
    beside = rows["twin"] != ""
    rows["look"] = rows["look"].mask(rows["algebra"] == "none", rows["subject"])
    rows["subject"] = rows["subject"].mask(beside, rows["twin"])
    rows["path"] = rows["path"].replace({"none": "auto"})
    return rows


def _panels(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A panel for each layer and phase and whatever else varies but the channels, named in the title."""
    found = []
    for (subject, phase), of_phase in rows.groupby(["subject", "phase"], sort=False):
        # a fixed path beside the default one is for the table: a figure has one line for a variant
        own = of_phase[of_phase["path"] == "auto"] if (of_phase["path"] == "auto").any() else of_phase
        title = f"{subject}, {str(phase).replace('_', ' ')}"
        if own["batch"].nunique() == 1:
            title += f", batch {own['batch'].iloc[0]}"
        found += [(", ".join([title, *names]), part) for names, part in _parts(own, ("channels", "out_channels"))]
    return found


def _parts(rows: pd.DataFrame, but: tuple[str, ...] = ()) -> list[tuple[list[str], pd.DataFrame]]:
    """Rows split by every factor that varies, ``but`` some, each part with the names that tell it from the others."""
    keys = [key for key in varying(rows, but=(*but, "shape")) if key not in ("path", "recipe")]
    if not keys:
        return [([], rows)]
    groups = rows.groupby(keys, sort=False, dropna=False)
    return [([_named(k, v) for k, v in zip(keys, values, strict=True)], part) for values, part in groups]


def _named(factor: str, value: object) -> str:
    return str(value) if isinstance(value, str) else f"{factor.replace('_', ' ')} {value}"


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(2, count)
    lines = math.ceil(count / columns)
    width = style.COLUMN if columns == 1 else style.PAGE
    figure, axes = plt.subplots(lines, columns, figsize=(width, 2.1 * lines + 0.35), squeeze=False)
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    return figure, flat[:count]


def _ticks(axis: Axes, values: list[float]) -> None:
    """A logarithmic axis of widths or dimensions: a tick at each value measured, and no other."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _log_values(axis: Axes, unit: str) -> None:
    """A logarithmic axis of values, its ticks in engineering units."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(EngFormatter(unit))


# as many as there are dimensions of a learned rule in one figure
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)))


def _lines(axis: Axes, own: pd.DataFrame, x: str, hue: str) -> None:
    """A line with error bars for each variant, in the looks of its algebra; intervals stand side by side."""
    colours, markers = style.looks(list(own["look"].unique()))
    seen: dict[str, int] = {}
    groups = list(own.groupby(hue, sort=False))
    for index, (name, points) in enumerate(groups):
        look = points["look"].iloc[0]
        nth = seen[look] = seen.get(look, -1) + 1
        points = points.sort_values(x)
        below, above = points["value"] - points["lo"], points["hi"] - points["value"]
        aside = 2 ** (0.05 * (index - (len(groups) - 1) / 2)) if points["lo"].notna().any() else 1.0
        axis.errorbar(
            points[x].astype(float) * aside, points["value"], yerr=[below.fillna(0), above.fillna(0)],
            label=str(name), color=colours[look], marker=markers[look], linestyle=_DASHES[nth % len(_DASHES)],
            capsize=2, elinewidth=0.7,
        )  # fmt: skip


def _legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend below all panels, in as many columns as its longest label allows."""
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    width = figure.get_size_inches()[0]
    longest = max(len(label) for label in handles)
    columns = max(1, min(len(handles), int(width / (0.45 + 0.062 * longest))))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False,
        columnspacing=1.0, handlelength=1.6,
    )  # fmt: skip


def _widest(own: pd.DataFrame) -> pd.DataFrame:
    return own[own["channels"] == own["channels"].max()]


def _against_n(df: pd.DataFrame, metric: str, label: str) -> Figure | None:
    rows = _rows(df, metric)
    if METRICS[metric].task == "static":  # the same in every phase
        rows = rows[rows["phase"] == rows["phase"].iloc[:1].squeeze()]
    panels = [(title, _widest(own)) for title, own in _panels(rows[rows["channels"].notna()])]
    panels = [(title, own) for title, own in panels if own["n"].nunique() > 1]
    if not panels:
        return None
    figure, axes = _grid(len(panels))
    for axis, (title, own) in zip(axes, panels, strict=True):
        _lines(axis, own, "n", "look")
        _ticks(axis, own["n"].astype(float).tolist())
        axis.set(title=f"{title}, {own['channels'].iloc[0]} channels", xlabel="n", ylabel=label)
        axis.set_ylim(bottom=0)
        if metric != "latency_ratio":
            axis.yaxis.set_major_formatter(EngFormatter(sep=""))
    _legend(figure, axes)
    return figure


def _against_channels(df: pd.DataFrame, metrics: dict[str, tuple[str, str]]) -> Figure | None:
    """A row of panels for each layer and phase, a panel for each metric: name → (label, unit)."""
    panels = []
    for metric, (label, unit) in metrics.items():
        rows = _rows(df, metric)
        for title, own in _panels(rows[rows["channels"].notna()]):
            if own["channels"].nunique() > 1:
                panels.append((title, own, label, unit))
    if not panels:
        return None
    panels.sort(key=lambda panel: panel[0])  # stable: the metrics of one subject side by side
    figure, axes = _grid(len(panels))
    for axis, (title, own, label, unit) in zip(axes, panels, strict=True):
        _lines(axis, own, "channels", "variant")
        _ticks(axis, own["channels"].astype(float).tolist())
        axis.set(title=title, xlabel="channels", ylabel=label)
        if unit == "ratio":
            axis.set_ylim(bottom=0, top=max(1.2, axis.get_ylim()[1]))
        else:
            _log_values(axis, unit)
    _legend(figure, axes)
    return figure


def latency_against_n(df: pd.DataFrame) -> Figure | None:
    """Latency over the real layer's, against n, at the widest channels."""
    return _against_n(df, "latency_ratio", "latency / real")


def latency_against_channels(df: pd.DataFrame) -> Figure | None:
    """Latency against channels, in seconds and over the real layer's, a line for each variant."""
    return _against_channels(df, {"latency": ("latency", "s"), "latency_ratio": ("latency / real", "ratio")})


def params_against_n(df: pd.DataFrame) -> Figure | None:
    """Parameters against n, at the widest channels."""
    return _against_n(df, "params", "parameters")


def params_against_channels(df: pd.DataFrame) -> Figure | None:
    """Parameters against channels, a line for each variant."""
    return _against_channels(df, {"params": ("parameters", "")})


def accuracy_against_params(df: pd.DataFrame) -> Figure | None:
    """Mean accuracy over seeds, with its interval, against parameters."""
    accuracy, params = _rows(df, "accuracy"), _rows(df, "params")
    if accuracy.empty or params.empty:
        return None
    count = params.set_index("case_id")["value"]
    accuracy = accuracy.assign(params=accuracy["case_id"].map(count)).dropna(subset=["params"])
    panels = []
    for (subject, data), own in accuracy.groupby(["subject", "data"], sort=False):
        panels += [(", ".join([f"{subject} on {data}", *names]), part) for names, part in _parts(own)]
    figure, axes = _grid(len(panels))
    for axis, (title, own) in zip(axes, panels, strict=True):
        colours, markers = style.looks(list(own["look"].unique()))
        axis.margins(0.12)
        for variant, seeds in own.groupby("variant", sort=False):
            look = seeds["look"].iloc[0]
            found = mean_interval(seeds["value"].tolist())
            reach = 0.0 if math.isnan(found.lo) else 100 * (found.hi - found.lo) / 2
            axis.errorbar(
                seeds["params"].mean(), 100 * found.value, yerr=reach, color=colours[look], marker=markers[look],
                linestyle="none", capsize=2, elinewidth=0.7, label=str(look),
                fillstyle="none" if look == "slim real" else "full",
            )  # fmt: skip
            if look == "ph":
                axis.annotate(
                    str(variant).removeprefix("ph "), (seeds["params"].mean(), 100 * found.value),
                    xytext=(5, 3), textcoords="offset points", fontsize=6, color=colours[look],
                )  # fmt: skip
        fewest = int(own.groupby("variant")["seed"].nunique().min())
        axis.set(title=f"{title}, {fewest} seeds", xlabel="parameters", ylabel="test accuracy (%)")
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_locator(FixedLocator(sorted({float(f"{p:.1g}") for p in own["params"]})))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k"))
    _legend(figure, axes)
    return figure


FIGURES: dict[str, Callable[[pd.DataFrame], Figure | None]] = {
    "latency_against_n": latency_against_n,
    "latency_against_channels": latency_against_channels,
    "params_against_n": params_against_n,
    "params_against_channels": params_against_channels,
    "accuracy_against_params": accuracy_against_params,
    "pareto_fronts": pareto.pareto_fronts,
}


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw every figure that the table has rows for, as PDF and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    style.apply()
    written = []
    for name, draw in FIGURES.items():
        for title, figure in _pages(name, draw, df):
            for suffix in (".pdf", ".png"):
                path = folder / f"{title}{suffix}"
                # no date in the file: the same table gives the same bytes
                metadata = {"CreationDate": None} if suffix == ".pdf" else None
                write_whole(path, functools.partial(figure.savefig, metadata=metadata))
                written.append(path)
            plt.close(figure)
    return written


_MOST_PANELS = 8  # on a page


def _pages(name: str, draw: Callable[[pd.DataFrame], Figure | None], df: pd.DataFrame) -> list[tuple[str, Figure]]:
    """The figure with its name; what does not fit on a page, one figure a subject."""
    figure = draw(df)
    if figure is None:
        return []
    if sum(axis.get_visible() for axis in figure.axes) <= _MOST_PANELS:
        return [(name, figure)]
    plt.close(figure)
    subject = df["twin"].where(df["twin"] != "", df["subject"])
    drawn = [(f"{name}_{only}", draw(df[subject == only])) for only in subject.unique()]
    return [(title, figure) for title, figure in drawn if figure is not None]
