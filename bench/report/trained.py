"""How well trainings did, and their differences to their controls over the same seeds; shown by tables/trained.py."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from ..metrics import METRICS
from ..stats import Interval, log_interval, mean_interval, paired_difference, resampled_difference

COSTS = ("params", "train_loss", "test_loss", "train_time")  # of a training; the others say how well it did
MAGNITUDES = ("mse", "rule_distance")  # compared by their ratios: they differ by powers of ten
ALPHA = 0.05  # of the adjusted p-values, for all comparisons of a table together


@dataclass(frozen=True)
class Comparison:
    """A variant's figures less those of its control, paired by seed; better: whether more of the metric is."""

    interval: Interval
    p: float
    pairs: int
    better: str

    def verdict(self, adjusted: float) -> str:
        """better, worse or can't tell, by a p-value that answers for all comparisons of the table."""
        if not adjusted < ALPHA:
            return "can't tell"
        return "better" if (self.interval.value > 0) == (self.better == "higher") else "worse"


def headline(rows: pd.DataFrame) -> str:
    """The metric by which variants are compared: the first of those that say how well a training did."""
    present = set(rows["metric"])
    return next((name for name in METRICS if name not in COSTS and name in present), "test_loss")


def compare(mine: pd.DataFrame, rows: pd.DataFrame, controls: Sequence[str | None], metric: str) -> Comparison | None:
    """The rows of one variant against the cases named in ``controls``, one for each; None with fewer than two pairs.

    Magnitudes are compared by their logarithms. Where seeds draw their splits from one set of examples, the test is
    the one for that (stats.resampled_difference).
    """
    of_metric = rows[rows["metric"] == metric]
    places = zip(of_metric["env_id"], of_metric["case_id"], strict=True)
    by_case = dict(zip(places, of_metric["value"].astype(float), strict=True))
    pairs = [
        (float(a), by_case[env_id, control])
        for a, env_id, case, control in zip(mine["value"], mine["env_id"], mine["case_id"], controls, strict=True)
        if (env_id, control) in by_case and control != case
    ]
    if len(pairs) < 2 or (metric in MAGNITUDES and min(map(min, pairs)) <= 0):
        return None
    scale: Callable[[float], float] = math.log if metric in MAGNITUDES else float
    a, b = ([scale(pair[side]) for pair in pairs] for side in (0, 1))
    share = overlap(mine)
    interval, p = resampled_difference(a, b, share) if share else paired_difference(a, b)
    return Comparison(interval, p, len(pairs), METRICS[metric].better)


def slim_controls(mine: pd.DataFrame, rows: pd.DataFrame) -> list[str | None]:
    """The slim controls of a variant's cases."""
    slim = rows[rows["control"] != "none"]
    ids = {
        control.removeprefix("slim:"): case for control, case in zip(slim["control"], slim["case_id"], strict=True)
    }
    by_variant = dict(zip(zip(slim["group_id"], slim["variant"], strict=True), slim["case_id"], strict=True))
    return [
        ids.get(case) or by_variant.get((group, f"slim real ({variant})"))
        for case, group, variant in zip(mine["case_id"], mine["group_id"], mine["variant"], strict=True)
    ]


def overlap(mine: pd.DataFrame) -> float:
    """Test over training examples where each seed draws its own split from one set of examples, else 0."""
    details = json.loads(mine["details"].iloc[0])
    counts = details.get("counts", {})
    return counts["test"] / counts["train"] if details.get("resampled") else 0.0


def mean(metric: str, values: Sequence[float]) -> Interval:
    """The mean over seeds: of magnitudes the geometric one, where all are above 0."""
    return log_interval(values) if metric in MAGNITUDES and min(values) > 0 else mean_interval(values)
