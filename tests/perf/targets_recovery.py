"""Targets of algebra recovery: how near a learned rule comes to Hamilton's, and how long its training takes.

The figures are the worst of five seeds, so they have no interval.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path

import pandas as pd
from targets import Figure, Target

SWEEP = """
schema = 1
name = "recovery"
title = "The Hamilton product, learned from data"
[[cases]]
subject = "{subject}"
metrics = ["rule_distance", "train_time"]
[cases.axes]
data = "{data}"
algebra = "ph"
n = 4
seed = [0, 1, 2, 3, 4]
[cases.recipe]
epochs = 30
batch_size = {batch}
optimizer = "adamw"
lr = 0.02
"""
LAYERS = {"hamilton": ("linear", 64), "hamilton-conv": ("conv2d", 32)}


@cache
def _table(data: str) -> pd.DataFrame:
    """The records of five trainings, each in a process of its own."""
    subject, batch = LAYERS[data]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recovery.toml"
        file.write_text(SWEEP.format(subject=subject, data=data, batch=batch))
        command = [sys.executable, "-m", "bench", "run", str(file), "--out", f"{folder}/run"]
        subprocess.run(command, check=True, capture_output=True)
        return pd.read_csv(Path(folder) / "run" / "table.csv")


def worst(data: str, metric: str) -> Figure:
    values = _table(data).query("metric == @metric")["value"]
    return Figure(float(values.max()), remark=f"of {len(values)} seeds")


TARGETS = [
    Target(f"{data}: {what}", unit, bar, partial(worst, data, metric))
    for data, far in (("hamilton", 1e-3), ("hamilton-conv", 1e-2))
    for what, metric, unit, bar in (
        ("rule_distance after 30 epochs", "rule_distance", "1", far),
        ("one training", "train_time", "s", 60.0),
    )
]
