"""What a metric is called on an axis, and in which unit: a prefix for a whole axis, so that ticks are short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import METRICS

_NAMES = {
    "params": "parameters", "macs": "multiply-adds", "macs_dense": "dense multiply-adds",
    "macs_weight_build": "weight build", "peak_bytes": "peak memory",
    "weight_bytes": "weights and buffers", "file_bytes": "file", "latency_ratio": "latency / real",
    "numeric_error": "relative error", "compile_time": "compilation", "train_time": "training",
    "train_loss": "training loss", "accuracy": "test accuracy", "test_loss": "test loss",
    "accuracy_before": "accuracy before conversion", "accuracy_projected": "accuracy after conversion",
    "sed_score": "SED score", "f_score": "F-score", "mse": "mean squared error", "efficiency": "share of the roof",
    "arithmetic_intensity": "intensity", "flops_torch": "torch's count", "macs_fvcore": "fvcore's count",
    "energy": "energy a call",
}  # fmt: skip

# shares
PER_CENT = ("accuracy", "accuracy_before", "accuracy_projected", "efficiency", "f_score", "precision", "recall")
_PLAIN = (
    "latency_ratio",
    "numeric_error",
    "train_loss",
    "test_loss",
    "loss",
    "sed_score",
    "error_rate",
    "mse",
    "arithmetic_intensity",
    "rule_distance",
)

_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "J": ((1, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
}
_WORDS = {"": "", "k": "thousands", "M": "millions", "G": "billions", "T": "trillions"}
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


@dataclass(frozen=True)
class Scale:
    """A unit of an axis or a column: value / factor is what is shown."""

    factor: float
    unit: str

    def label(self, name: str) -> str:
        """The name with its unit, where it has one."""
        return f"{name} ({self.unit})" if self.unit else name


def name_of(metric: str) -> str:
    """What a person calls a metric."""
    return _NAMES.get(metric, metric.replace("_", " "))


def unit_of(metric: str) -> str:
    """The SI unit of a metric; 1 of one that the project does not know."""
    return METRICS[metric].unit if metric in METRICS else "1"


def scale(metric: str, values: Sequence[float]) -> Scale:
    """The unit in which these values are read best: the median has one to three digits before the point."""
    unit = unit_of(metric)
    if metric in PER_CENT:
        return Scale(0.01, "%")
    if metric in _PLAIN:
        return Scale(1, "" if unit == "1" else unit)
    sizes = np.abs(np.asarray(values, dtype=float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    middle = float(np.median(sizes)) if len(sizes) else 1.0
    steps = _SCALES.get(unit, _COUNTS)
    factor, prefix = next((step for step in steps if middle >= step[0]), steps[-1])
    if unit in _SCALES:
        return Scale(factor, prefix)
    return Scale(factor, _WORDS[prefix] if unit == "1" else f"{prefix} {unit}".strip())
