"""Targets of the normalisation layers: at most three times torch's batch norm, in both memory formats.

Each figure is the median over rounds of time / time of nn.BatchNorm2d on the same input in the same round, on one
thread, the interval that over repetitions with new modules and data.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from targets import Target
from torch import nn

import phnn
from bench.stats import Interval, log_interval
from phnn.timing import sample

BAR = 3.0
REPEATS, ROUNDS = 5, 25
SHAPES = [(32, 64, 16, 16), (32, 256, 8, 8), (8, 64, 32, 32)]
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "PHBatchNorm2d n=4": partial(phnn.PHBatchNorm2d, n=4),
    "PHBatchNorm2d n=4 momentum=None": partial(phnn.PHBatchNorm2d, n=4, momentum=None),
    **{
        f"PHWhitening2d n={n} {method}": partial(phnn.PHWhitening2d, n=n, method=method)
        for n in (2, 4, 8)
        for method in ("cholesky", "zca")
    },
}


def ratio(make: Callable[[int], nn.Module], shape: tuple[int, ...], memory_format: Any, training: bool) -> Interval:
    """Time of the layer over that of torch's: forward and backward in training, forward alone in eval."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return log_interval([_median_ratio(make, shape, memory_format, training) for _ in range(REPEATS)])
    finally:
        torch.set_num_threads(threads)


def _median_ratio(make: Any, shape: tuple[int, ...], memory_format: Any, training: bool) -> float:
    x = torch.randn(shape).to(memory_format=memory_format)
    modules = {"layer": make(shape[1]).train(training), "torch": nn.BatchNorm2d(shape[1]).train(training)}
    calls = {name: partial(_train if training else _infer, module, x) for name, module in modules.items()}
    rounds = sample(calls, lambda rounds: "enough" if len(rounds) >= ROUNDS else None).rounds
    return statistics.median(r.seconds["layer"] / r.seconds["torch"] for r in rounds)


def _train(module: nn.Module, x: torch.Tensor) -> None:
    y = module(x.detach().requires_grad_(True))
    y.backward(x)


def _infer(module: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        module(x)


TARGETS = [
    Target(
        f"{name}, {'×'.join(map(str, shape))} {layout}, {'training' if training else 'inference'}",
        "of nn.BatchNorm2d's time",
        BAR,
        partial(ratio, make, shape, memory_format, training),
    )
    for name, make in LAYERS.items()
    for shape in SHAPES
    for layout, memory_format in FORMATS.items()
    for training in (True, False)
]
