"""What the contraction paths promise, measured: ratios to the real layer in interleaved rounds of one process.

The baseline is torch.nn's layer or net in the faster of its two memory formats, with ordinary weights. No test asserts
these: they are figures of a machine, not of the code.
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from scipy import stats
from targets import Figure, Target
from torch import Tensor, nn

import phnn
from phnn.functional import ph_weight
from phnn.timing import Round, sample

SECONDS = 2.0  # that a comparison may take
PICK = 0.3  # that the choice between two tuned modules may take
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
GRID = [
    (channels, size, batch, kernel)
    for channels in (64, 128, 256, 512)
    for size in (4, 8, 16, 32)
    for batch in (1, 32)
    for kernel in (1, 3)
]


def interval(ratios: Sequence[float], remark: str = "") -> Figure:
    """Their geometric middle (median) with Student's t on the logarithms: rounds, not processes, so it is narrow."""
    logs = [math.log(ratio) for ratio in ratios]
    centre = statistics.median(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Figure(math.exp(centre), math.exp(centre - half), math.exp(centre + half), remark)


def rounds_of(calls: Mapping[str, Callable[[], object]], seconds: float, at_least: int = 7) -> dict[str, list[float]]:
    """Seconds per call of each callable, a value a round."""
    start = time.perf_counter()

    def stop(rounds: Sequence[Round]) -> str | None:
        return "budget" if len(rounds) >= at_least and time.perf_counter() - start > seconds else None

    samples = sample(calls, stop)
    return {name: samples.seconds(name) for name in calls}


def over_best(times: Mapping[str, list[float]], name: str = "ours") -> Figure:
    """``name`` over the faster of the variants whose names start with "real"."""
    best = min((key for key in times if key.startswith("real")), key=lambda key: statistics.median(times[key]))
    ours = statistics.median(times[name])
    remark = f"{best} {statistics.median(times[best]) * 1e3:.3f} ms, {ours * 1e3:.3f} ms"
    return interval([a / b for a, b in zip(times[name], times[best], strict=True)], remark)


def infer(module: nn.Module, x: Tensor) -> Callable[[], object]:
    module.eval()

    def call() -> Tensor:
        with torch.inference_mode():
            return module(x)

    return call


def in_formats(module: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """Inference of a real module in both memory formats."""
    return {
        f"real {name}": infer(copy.deepcopy(module).to(memory_format=fmt), x.contiguous(memory_format=fmt))
        for name, fmt in FORMATS.items()
    }


def tuned(module: nn.Module, x: Tensor, **options: Any) -> tuple[nn.Module, Tensor, str]:
    """The module tuned for the better of the input's formats, that input, and the plan of its last layer.

    As the real layer is given its input in the format that suits it, so is ours.
    """
    found = {}
    for name, fmt in FORMATS.items() if x.dim() == 4 else [("", torch.contiguous_format)]:
        twin, given = copy.deepcopy(module).eval(), x.contiguous(memory_format=fmt)
        tuning = phnn.tune(twin, (given,), **options)
        found[name] = (twin, given, str(list(tuning.plans.values())[-1]))
    if len(found) == 1:
        return next(iter(found.values()))
    # side by side: the figures of two tunings are of two moments
    times = rounds_of({name: infer(twin, given) for name, (twin, given, _) in found.items()}, PICK)
    return found[min(found, key=lambda name: statistics.median(times[name]))]


def linear(width: int, batch: int, seconds: float = SECONDS, **algebra: Any) -> Figure:
    x = torch.randn(batch, width)
    real, ours = nn.Linear(width, width), phnn.PHLinear(width, width, **algebra)
    ours, x, plan = tuned(ours, x, seconds_per_plan=seconds / 10)
    found = over_best(rounds_of({"real": infer(real, x), "ours": infer(ours, x)}, seconds))
    return Figure(found.value, found.lo, found.hi, f"{plan}: {found.remark}")


@cache
def conv_times(
    channels: int, size: int, batch: int, kernel: int, seconds: float, algebra: tuple[tuple[str, Any], ...]
) -> tuple[Mapping[str, list[float]], str]:
    x = torch.randn(batch, channels, size, size)
    arguments = {"kernel_size": kernel, "padding": kernel // 2, "bias": False}
    real = nn.Conv2d(channels, channels, **arguments)
    ours = phnn.PHConv2d(channels, channels, **arguments, **dict(algebra))
    ours, given, plan = tuned(ours, x, seconds_per_plan=seconds / 20)
    return rounds_of({**in_formats(real, x), "ours": infer(ours, given)}, seconds), plan


def conv(channels: int, size: int, batch: int, kernel: int, seconds: float = SECONDS, **algebra: Any) -> Figure:
    times, plan = conv_times(channels, size, batch, kernel, seconds, tuple(algebra.items()))
    found = over_best(times)
    return Figure(found.value, found.lo, found.hi, f"{plan}: {found.remark}")


def grid_mean(seconds: float = SECONDS, **algebra: Any) -> Figure:
    """Geometric mean over the grid; its interval joins those of the cases."""
    logs, variances = [], []
    for case in GRID:
        found = conv(*case, seconds=seconds / 4, **algebra)
        logs.append(math.log(found.value))
        variances.append((math.log(found.hi / found.lo) / 2 / 1.96) ** 2)
        sys.stderr.write(f"  {case}: {found.value:.3f} [{found.lo:.3f}, {found.hi:.3f}]  {found.remark}\n")
    mean, half = statistics.fmean(logs), 1.96 * math.sqrt(sum(variances)) / len(logs)
    return Figure(math.exp(mean), math.exp(mean - half), math.exp(mean + half), f"{len(logs)} cases")


def grid_worst(seconds: float = SECONDS, **algebra: Any) -> Figure:
    """The largest excess over the real layer, in units of what is allowed: 3 % or 3 µs, whichever is larger."""
    worst, where = -math.inf, ""
    for case in GRID:
        times, plan = conv_times(*case, seconds / 4, tuple(algebra.items()))
        real = min(statistics.median(v) for name, v in times.items() if name.startswith("real"))
        excess = (statistics.median(times["ours"]) - real) / max(0.03 * real, 3e-6)
        if excess > worst:
            worst, where = excess, f"{case} {plan}, real {real * 1e6:.1f} µs"
    return Figure(worst, worst, worst, where)


def resnet(batch: int, seconds: float = SECONDS, **algebra: Any) -> Figure:
    x = torch.randn(batch, 3, 32, 32)
    real, ours = phnn.create_model("resnet18", algebra="real"), phnn.create_model("resnet18", **algebra)
    ours, given, _ = tuned(ours, x)
    return over_best(rounds_of({**in_formats(real, x), "ours": infer(ours, given)}, 3 * seconds))


def train_step(model: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], object]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


@cache
def training_times(batch: int, seconds: float) -> Mapping[str, list[float]]:
    x, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    calls = {}
    for name, fmt in FORMATS.items():
        real = phnn.create_model("resnet18", algebra="real").to(memory_format=fmt)
        calls[f"real {name}"] = train_step(real, x.contiguous(memory_format=fmt), labels)
    kron = phnn.create_model("resnet18", algebra="quaternion", path="kron")
    calls["kron"] = train_step(kron, x, labels)
    ours = phnn.create_model("resnet18", algebra="quaternion")
    tuning = phnn.tune(ours, (x,), phase="train")
    calls["ours"] = train_step(ours, x.contiguous(memory_format=FORMATS[tuning.memory_format]), labels)
    return rounds_of(calls, 5 * seconds, at_least=5)


def training_over_real(seconds: float = SECONDS) -> Figure:
    return over_best(training_times(32, seconds))


def training_over_kron(seconds: float = SECONDS) -> Figure:
    times = training_times(32, seconds)
    return interval([a / b for a, b in zip(times["ours"], times["kron"], strict=True)])


def _build_of(path: str) -> Callable[[], object]:
    A, F = torch.randn(4, 4, 4, requires_grad=True), torch.randn(4, 128, 128, 3, 3, requires_grad=True)
    gradient = torch.randn(512, 512, 3, 3)
    return lambda: torch.autograd.grad(ph_weight(A, F, path=path), (A, F), gradient)


def build_time(seconds: float = SECONDS) -> Figure:
    times = rounds_of({"dense": _build_of("dense"), "kron": _build_of("kron")}, seconds)
    return interval([a / b for a, b in zip(times["dense"], times["kron"], strict=True)])


def build_memory() -> Figure:
    """Peak of what a build and its backward allocate, over the bytes of W. Exact: allocations, not samples."""
    call = _build_of("dense")
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    ratio = peak / (512 * 512 * 9 * 4)
    return Figure(ratio, ratio, ratio)


H, PH4, PH8 = {"algebra": "quaternion"}, {"n": 4}, {"n": 8}

TARGETS: list[Target] = [
    Target("linear 4096², batch 1, quaternion", "×", 0.40, partial(linear, 4096, 1, **H)),
    Target("linear 4096², batch 1, learned n=4", "×", 0.40, partial(linear, 4096, 1, **PH4)),
    Target("linear 4096², batch 1, learned n=8", "×", 0.30, partial(linear, 4096, 1, **PH8)),
    Target("linear 2048², batch 256, quaternion", "×", 0.57, partial(linear, 2048, 256, **H)),
    Target("conv3×3 512→512, 8×8, batch 32, learned n=4", "×", 0.50, partial(conv, 512, 8, 32, 3, **PH4)),
    Target("conv3×3 512→512, 8×8, batch 32, quaternion", "×", 0.55, partial(conv, 512, 8, 32, 3, **H)),
    Target("conv grid, learned n=4: geometric mean", "×", 0.68, partial(grid_mean, **PH4)),
    Target("conv grid, learned n=4: worst excess / allowed", "×", 1.0, partial(grid_worst, **PH4)),
    Target("ResNet18, batch 1, quaternion", "×", 0.85, partial(resnet, 1, **H)),
    Target("ResNet18, batch 1, learned n=4", "×", 0.85, partial(resnet, 1, **PH4)),
    Target("ResNet18, batch 32, quaternion", "×", 0.70, partial(resnet, 32, **H)),
    Target("ResNet18, batch 32, learned n=4", "×", 0.70, partial(resnet, 32, **PH4)),
    Target("ResNet18 training step, batch 32, quaternion / real", "×", 0.85, training_over_real),
    Target("ResNet18 training step, batch 32, quaternion / kron", "×", 0.50, training_over_kron),
    Target("weight build 512→512 k3, n=4, forward and backward: time / kron", "×", 0.10, build_time),
    Target("weight build 512→512 k3, n=4, forward and backward: peak / W", "×", 2.5, build_memory),
]
