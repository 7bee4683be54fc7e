"""The table of metrics: name, SI unit, which way is better, what it means, and which task yields it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One measured quantity. better: ``lower`` or ``higher``; task: ``timing``, ``static`` or ``training``."""

    name: str
    unit: str
    better: str
    task: str
    doc: str


_TABLE = (
    Metric("params", "1", "lower", "static", "trainable parameters"),
    Metric("macs", "MAC", "lower", "static", "multiply-adds of one forward call, by the path that runs"),
    Metric("macs_dense", "MAC", "lower", "static", "multiply-adds of the real layers of the same widths"),
    Metric("macs_weight_build", "MAC", "lower", "static", "multiply-adds that build the weights, once a build"),
    Metric("macs_fvcore", "MAC", "lower", "static", "fvcore's count of one forward call that builds its weights"),
    Metric(
        "flops_torch",
        "FLOP",
        "lower",
        "static",
        "FlopCounterMode's count of a call that builds its weights",
    ),
    Metric("arithmetic_intensity", "FLOP/B", "higher", "static", "FLOP of one call over the bytes that it must move"),
    Metric("weight_bytes", "B", "lower", "static", "parameters and buffers"),
    Metric("file_bytes", "B", "lower", "static", "the state_dict as torch.save writes it"),
    Metric("peak_bytes", "B", "lower", "static", "largest total of live allocations during one call of the phase"),
    Metric(
        "largest_batch", "1", "higher", "static", "examples of the largest batch whose call fits the device, to 1/64"
    ),
    Metric("numeric_error", "1", "lower", "static", "||y - y64|| / ||y64|| against float64; gradients when training"),
    Metric("latency", "s", "lower", "timing", "one call of the phase"),
    Metric("latency_ratio", "1", "lower", "timing", "latency over the baseline's of the same round"),
    Metric(
        "efficiency", "1", "higher", "timing", "share of the roof min(peak, intensity x bandwidth) that is reached"
    ),
    Metric("energy", "J", "lower", "timing", "one call of the phase, warm, the idle share included"),
    Metric("compile_time", "s", "lower", "timing", "the first call of a compiled case, its kernels in no cache"),
    Metric("accuracy", "1", "higher", "training", "share of the test examples that are classified right"),
    Metric("accuracy_before", "1", "higher", "training", "accuracy of the real net before it was converted"),
    Metric("accuracy_projected", "1", "higher", "training", "accuracy after the conversion, before fine-tuning"),
    Metric("sed_score", "1", "lower", "training", "(error_rate + 1 - f_score) / 2"),
    Metric("error_rate", "1", "lower", "training", "sound events substituted, deleted and inserted, over all events"),
    Metric("f_score", "1", "higher", "training", "harmonic mean of precision and recall"),
    Metric("precision", "1", "higher", "training", "share of the detected sound events that are right"),
    Metric("recall", "1", "higher", "training", "share of the true sound events that are detected"),
    Metric("mse", "1", "lower", "training", "mean squared error of the test part"),
    Metric("rule_distance", "1", "lower", "training", "sine of the largest angle between the learned and true rules"),
    Metric("test_loss", "1", "lower", "training", "mean loss over the test part"),
    Metric("train_loss", "1", "lower", "training", "mean loss over the last epoch"),
    Metric("train_time", "s", "lower", "training", "wall time of all training steps, without validation"),
)

METRICS = {metric.name: metric for metric in _TABLE}


def of_task(kind: str) -> list[str]:
    """The names of the metrics that a task of this kind yields."""
    return [metric.name for metric in _TABLE if metric.task == kind]
