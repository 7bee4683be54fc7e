"""Targets of the accuracy studies: what they take, and what they must show.

``make targets ARGS=study`` runs the whole accuracy sweep once, up to an hour, and reads most figures off its table;
RESULTS=<run folder> in the environment reads them off a run that is there already.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from targets import Figure, Target

from bench.report.trained import compare

SWEEP = Path(__file__).resolve().parents[2] / "bench" / "sweeps" / "accuracy.toml"


def _run(folder: str, *args: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bench", "run", str(SWEEP), "--out", folder, *args], check=True, capture_output=True
    )
    return time.perf_counter() - started


@functools.cache
def _whole() -> tuple[pd.DataFrame, float]:
    """The table of the sweep, and the seconds that it took (NaN of a run that was there)."""
    if there := os.environ.get("RESULTS"):
        return pd.read_parquet(Path(there) / "table.parquet"), math.nan
    with tempfile.TemporaryDirectory() as folder:
        seconds = _run(folder)
        return pd.read_parquet(Path(folder) / "table.parquet"), seconds


def whole_seconds() -> Figure:
    return Figure(_whole()[1])


def quick_seconds() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        return Figure(_run(folder, "--quick"))


def _rows(subject: str, data: str, metric: str, converted: bool = False) -> pd.DataFrame:
    df = _whole()[0]
    rows = df[(df["subject"] == subject) & (df["data"] == data) & (df["status"] == "ok")]
    return rows[(rows["metric"] == metric) & (rows["recipe"].str.contains('"start": "project"') == converted)]


def longest_training() -> Figure:
    """Of all digits trainings, side by side on the cores: steps alone, without the search that comes before."""
    return Figure(float(_rows("resnet20", "digits", "train_time")["value"].max()))


def lost_points() -> Figure:
    """Accuracy of the real net less that of PH n=4, in points, over the seeds: the bar is for the upper end."""
    rows = _rows("resnet20", "digits", "accuracy")
    mine = rows[rows["variant"] == "ph n=4"]
    found = compare(mine, rows, list(mine["baseline_id"]), "accuracy")
    assert found is not None
    lo, hi = -100 * found.interval.hi, -100 * found.interval.lo
    return Figure(hi, remark=f"the upper end of [{lo:.2f}, {hi:.2f}], {found.pairs} seeds, p = {found.p:.2g}")


def against_slim() -> Figure:
    """The p-value of PH n=4 against the slim real net; the remark says which is better, if either is."""
    rows = _rows("resnet20", "digits", "accuracy")
    mine = rows[rows["variant"] == "ph n=4"]
    slim = rows[rows["variant"] == "slim real (ph n=4)"].set_index("seed")["case_id"]
    found = compare(mine, rows, [slim.get(seed) for seed in mine["seed"]], "accuracy")
    assert found is not None
    interval = f"[{100 * found.interval.lo:.2f}, {100 * found.interval.hi:.2f}] points"
    return Figure(found.p, remark=f"PH n=4 less slim real: {interval}, {found.verdict(found.p)}, before Holm")


def recovered(subject: str, data: str) -> Figure:
    return Figure(float(_rows(subject, data, "rule_distance")["value"].max()), remark="the worst seed")


def recovery_seconds(subject: str, data: str) -> Figure:
    return Figure(float(_rows(subject, data, "train_time")["value"].max()), remark="the slowest seed")


def missing_variants() -> Figure:
    """Of the four forms of SELDnet, those without a score in every seed."""
    seeds = _rows("seldnet", "sounds", "sed_score").groupby("variant")["seed"].nunique()
    lacking = [v for v in ("real", "quaternion", "ph n=2", "ph n=4") if seeds.get(v, 0) < 5]
    return Figure(len(lacking), remark=", ".join(lacking) or "all four over 5 seeds")


_FROM_TABLE: list[tuple[str, str, float, Callable[[], Figure]]] = [
    ("one training of resnet20 on digits", "s", 60.0, longest_training),
    ("real less PH n=4 on digits, upper end", "points", 2.0, lost_points),
    ("p of PH n=4 against the slim real net on digits", "(any p is an answer)", 1.0, against_slim),
    ("rule_distance of PHM to the quaternions", "", 1e-3, partial(recovered, "linear", "hamilton")),
    ("its training", "s", 60.0, partial(recovery_seconds, "linear", "hamilton")),
    ("rule_distance of PHC to the quaternions", "", 1e-2, partial(recovered, "conv2d", "hamilton-conv")),
    ("its training", "s", 60.0, partial(recovery_seconds, "conv2d", "hamilton-conv")),
    ("SELDnet on made sounds: of four, not compared", "forms", 0.5, missing_variants),
]

TARGETS = [
    # a run that is there already does not say how long it took
    *([] if "RESULTS" in os.environ else [Target("make accuracy, from an empty folder", "s", 3600.0, whole_seconds)]),
    *(Target(*entry) for entry in _FROM_TABLE),
    Target("make accuracy ARGS=--quick, from an empty folder", "s", 600.0, quick_seconds),
]
