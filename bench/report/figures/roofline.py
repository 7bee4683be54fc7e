"""The roofline: FLOP/s reached against arithmetic intensity, under the roofs measured on the same machine.

    reached = efficiency * min(peak, intensity * bandwidth)

Source of the form: Williams, Waterman, Patterson, CACM 52, 2009.
"""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ...machine.roofs import arithmetic_of
from ..varying import machines
from . import axes
from .layout import Drawing, Drawn
from .rows import of_metric
from .spec import Spec

_NOTE = "Lines: the measured peak, and the bandwidths of the memories that hold what the calls move."


def draw(df: pd.DataFrame, spec: Spec) -> Drawing:
    """A panel for each machine, arithmetic, number of threads and phase; a point for each case."""
    rows = of_metric(df, "efficiency", details=True)
    counted = of_metric(df, "arithmetic_intensity")
    counted = counted[counted["good"]]
    intensity = dict(zip(counted["case_id"], counted["value"], strict=True))  # the same on every machine
    rows = rows[rows["good"]]
    rows = rows.assign(intensity=rows["case_id"].map(intensity)).dropna(subset=["intensity"])
    drawn = []
    if len(rows):
        roofs = [json.loads(details).get("roof", {}) for details in rows["details"]]
        rows = rows.assign(
            peak=[float(roof.get("peak", np.nan)) for roof in roofs],
            bandwidth=[float(roof.get("bandwidth", np.nan)) for roof in roofs],
            arithmetic=[
                arithmetic_of({"precision": precision, "dtype": dtype})
                for precision, dtype in zip(rows["precision"], rows["dtype"], strict=True)
            ],
        ).dropna(subset=["peak", "bandwidth"])
        rows["reached"] = rows["value"] * np.minimum(rows["peak"], rows["intensity"] * rows["bandwidth"])
        short, looks = machines(rows["env_id"]), axes.looks(rows)
        for keys, own in rows.groupby(["env_id", "arithmetic", "threads", "phase"], sort=False):
            env, arithmetic, threads, phase = map(str, keys)
            names = [phase.replace("_", " "), arithmetic]
            names += [] if threads == "0" else [f"{threads} thread{'' if threads == '1' else 's'}"]
            title = ", ".join([short[env], *names])
            drawn.append(Drawn(title, title, partial(_panel, rows=own, looks=looks), 1.25))
    return Drawing(
        drawn[: spec.panels], _NOTE, len(drawn), "efficiency and arithmetic_intensity (bench env --calibrate)"
    )


def _panel(axis: Axes, rows: pd.DataFrame, looks: axes.Looks) -> None:
    low, high = rows["intensity"].min() / 2, rows["intensity"].max() * 2
    peaks, bandwidths = sorted(set(rows["peak"].round(-6))), sorted(set(rows["bandwidth"].round(-6)))
    knee = max(peaks) / min(bandwidths)
    low, high = min(low, knee / 2), max(high, knee * 2)
    at = np.geomspace(low, high, 60)
    ends = sorted({bandwidths[0], bandwidths[-1]})
    for bandwidth in ends:
        under = np.minimum(at * bandwidth, max(peaks)) / 1e9
        axis.plot(at, under, color="0.35", linewidth=0.8, zorder=1)
        slope = bandwidth / 1e9
        axis.text(
            low * 1.1, low * 1.1 * slope * 1.12, f"{slope:.3g} GB/s", fontsize=6, color="0.25", va="bottom",
            rotation=math.degrees(math.atan(slope)), rotation_mode="anchor", transform_rotates_text=True,
        )  # fmt: skip
    axis.annotate(
        f"peak {max(peaks) / 1e9:.3g} GFLOP/s", (high, max(peaks) / 1e9), xytext=(-2, 2), textcoords="offset points",
        fontsize=6, color="0.25", ha="right", va="bottom",
    )  # fmt: skip
    for name, points in rows.groupby("variant", sort=False):
        own = looks[str(name)]
        axis.plot(
            points["intensity"], points["reached"] / 1e9, linestyle="none", marker=own.marker, fillstyle=own.fill,
            color=own.colour, markersize=3.2, label=axes.label(str(name)), alpha=0.85,
        )  # fmt: skip
    lowest = min(rows["reached"].min(), low * ends[0]) / 1e9
    axes.log_steps(axis, [low, high], "x")
    axes.log_steps(axis, [lowest, max(peaks) / 1e9], "y")
    axis.set_xlim(low, high)
    axis.set_ylim(lowest / 1.5, max(peaks) / 1e9 * 1.9)
    axis.set(xlabel="intensity (FLOP/B)", ylabel="reached (GFLOP/s)")
