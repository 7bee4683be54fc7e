"""Tuning: measure how each layer of a model runs fastest, for the shapes and the device at hand, and fix it.

    for each memory format: run the model once and note what each layer receives
        for each kind of layer (same class, sizes and input): time its plans, interleaved, and keep the fastest
    time the whole model, tuned in each format, with each layer in its own, and untuned, interleaved; keep the fastest
    if a tuned one does not beat the untuned one in most rounds of a run-off, keep that

Knows plans, layers and the sampler; nothing of sweeps or records. The result is a value that can be saved.
"""

from __future__ import annotations

import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from . import kernels
from .layers._base import PHLayer
from .plan import PLAIN, Plan
from .timing import Round, no_sync, sample

_VERSION = 1
_MARGIN = 0.98  # another plan than dense must win by more than noise
_CHANGE = 0.9  # another memory format than its neighbours' must win by what the conversions may cost
_CHUNK_BYTES = 2 << 20  # mixed input of a chunk: about a core's second-level cache
_ROUNDS = 5  # fewer may all be disturbed
# rounds of a look, and how many times the fastest a plan may take to be looked at again: what an interrupt makes of
# one round, and what noise makes of the best of three
_LOOKS = ((1, 10.0), (2, 2.0))
_RUN_OFF = 15  # rounds of the tuned model against the untuned one, the faster half of which decides
_PHASES = ("infer", "train")
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Tuning:
    """What was measured and chosen: a plan for each layer, and the memory format of the model.

    seconds: fastest round of each plan of each layer, by the layer's name; model_seconds: of the whole model, untuned
    (``dense``) and tuned in each format.
    """

    phase: str
    memory_format: str
    plans: Mapping[str, Plan]
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    model_seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, known in (("phase", self.phase, _PHASES), ("memory_format", self.memory_format, _FORMATS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: choose {' or '.join(known)}")

    def apply(self, model: nn.Module) -> nn.Module:
        """Make the layers of ``model`` follow the plans, in place. A ValueError names layers that it lacks.

        Learned rules are decomposed for inference, as they are now: load the model's weights before. A warning where
        plans ask for the mixing kernel and this machine cannot build it; torch's operators then take its place.
        """
        layers = tunable_layers(model)
        if missing := sorted(set(self.plans) - set(layers)):
            raise ValueError(f"this tuning is of another model: no tunable layer {', '.join(missing)}")
        model.to(memory_format=_FORMATS[self.memory_format])
        fused = any(plan.fused and layers[name].F.device.type == "cpu" for name, plan in self.plans.items())
        if fused and (reason := kernels.build()):
            warnings.warn(f"fused plans of this tuning mix with torch's operators: {reason}", stacklevel=2)
        if self.phase == "infer":
            _decompose({name: layers[name] for name, plan in self.plans.items() if plan.path == "bilinear"})
        for name, plan in self.plans.items():
            layers[name]._tuned[self.phase] = plan
        return model

    def save(self, file: str | Path) -> None:
        """Write it as JSON."""
        text = {
            "version": _VERSION,
            "phase": self.phase,
            "memory_format": self.memory_format,
            "plans": {name: plan.as_dict() for name, plan in self.plans.items()},
            "seconds": {name: dict(times) for name, times in self.seconds.items()},
            "model_seconds": dict(self.model_seconds),
        }
        Path(file).write_text(json.dumps(text, indent=1) + "\n")

    @classmethod
    def load(cls, file: str | Path) -> Tuning:
        """Read what ``save`` wrote; a ValueError for another version, and for what is no tuning."""
        try:
            text = json.loads(Path(file).read_text())
            if (version := text.pop("version", None)) != _VERSION:
                raise ValueError(f"tuning of version {version}, this is version {_VERSION}: tune again")
            return cls(**{**text, "plans": {name: Plan(**plan) for name, plan in text["plans"].items()}})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file} is no tuning that can be read: {error}") from error

    def __str__(self) -> str:
        """A line for each layer: the plan, its time, and its ratio to ``dense`` in the same format."""
        lines = [f"{self.phase}, {self.memory_format}"]
        for name, plan in self.plans.items():
            times = self.seconds.get(name, {})
            chosen, dense = times.get(str(plan)), times.get(str(Plan("dense", plan.memory_format)))
            measured = "" if not (chosen and dense) else f"  {chosen * 1e3:.3f} ms  {chosen / dense:.2f} of dense"
            lines.append(f"  {name or 'layer'}: {plan}{measured}")
        lines += [f"  whole model, {name}: {seconds * 1e3:.3f} ms" for name, seconds in self.model_seconds.items()]
        return "\n".join(lines)


def tune(
    model: nn.Module, example_inputs: Sequence[Any], *, phase: str = "infer", seconds_per_plan: float = 0.03
) -> Tuning:
    """Time the candidate plans of every layer of ``model`` in place, fix the fastest, and return what was found.

    example_inputs: positional arguments of ``model``, of the shapes, dtype and device that it will see. phase:
    ``infer`` (gradients off) or ``train`` (forward and backward); each has its own plans. seconds_per_plan: what to
    spend on each plan of a layer, at least five rounds. Learned rules are decomposed for inference. Layers with a
    path of their own are left alone. The model may end up in channels_last memory format, which changes no value.
    On CUDA the paths and the memory formats are the candidates; packed weights, chunks and the kernel are a CPU's,
    and a plan for which the device has no memory is left out.
    Raises ValueError for an empty batch, for a model on the meta device, and for training without a parameter that
    learns.
    """
    _check(model, example_inputs, phase)
    layers = tunable_layers(model)
    if phase == "infer":
        _decompose(layers)
    if any(layer.F.device.type == "cpu" for layer in layers.values()):
        kernels.build()  # where it cannot be, its plans are not among the candidates
    formats = ["contiguous"]
    if any(layer.F.dim() == 5 for layer in layers.values()):
        formats.append("channels_last")
    found: dict[str, Tuning] = {}
    for memory_format in formats:
        twin = _dense(copy.deepcopy(model), phase, memory_format)
        found[memory_format] = _tuned_layers(twin, example_inputs, phase, memory_format, seconds_per_plan)
    if len(found) > 1:
        found["mixed"] = _mixed(found["contiguous"], found["channels_last"])
    tuning = _fastest(model, example_inputs, phase, found, seconds_per_plan)
    tuning.apply(model)
    return tuning


def _check(model: nn.Module, inputs: Sequence[Any], phase: str) -> None:
    if phase not in _PHASES:
        raise ValueError(f"unknown phase {phase!r}: choose {' or '.join(_PHASES)}")
    if isinstance(inputs, Tensor):
        raise TypeError("example_inputs are the model's positional arguments: a tuple (x,), not the tensor x")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("the model is on the meta device, where nothing takes time")
    if phase == "train" and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter of the model asks for a gradient: tune it with phase='infer'")


def tunable_layers(model: nn.Module) -> dict[str, PHLayer]:
    """The layers that leave their path to ``auto``, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, PHLayer) and module.tunable and module.path == "auto"
    }


def candidates(layer: PHLayer, x: Tensor, phase: str, memory_format: str) -> list[Plan]:
    """The plans worth timing for a layer that receives x; ``dense`` comes first."""
    infer, rank = phase == "infer", layer._known_rank()
    bilinear = rank is not None and (infer or not layer.algebra.learned or layer.rank is not None)
    fused = bilinear and x.device.type == "cpu" and (infer or layer.rank is None) and kernels.load()
    if layer.F.dim() == 3:
        return _linear_candidates(layer, x, bilinear, infer and x.device.type == "cpu", fused)
    keep = memory_format if layer.F.dim() == 5 else "keep"
    plans = [Plan("dense", keep)]
    # the packed convolution leaves its output in channels_last, whatever it is given
    packable = infer and keep == "channels_last" and not layer.transposed and x.device.type == "cpu"
    if packable and layer._groups == 1:
        plans.append(Plan("dense", keep, packed=True))
    if keep != "channels_last":  # components are images only where channels are planes
        plans.append(Plan("factored", keep))
    if bilinear:
        assert rank is not None
        chunks = [0, *(_chunks(x, rank / layer.n) if infer and x.device.type == "cpu" else [])]
        plans += [Plan("bilinear", keep, packable, chunk, fused) for chunk in chunks]
    return plans


def _linear_candidates(layer: PHLayer, x: Tensor, bilinear: bool, packable: bool, fused: bool) -> list[Plan]:
    plans = [PLAIN["dense"], PLAIN["factored"], *([PLAIN["bilinear"]] if bilinear else [])]
    if packable:
        plans.append(Plan("dense", packed=True))
    if packable and bilinear:
        rows = x.reshape(-1, x.shape[-1])
        chunks = [0, *_chunks(rows, (layer._known_rank() or 0) / layer.n)]
        plans += [Plan("bilinear", packed=True, chunk=chunk, fused=fused) for chunk in chunks]
    return plans


def _chunks(x: Tensor, growth: float) -> list[int]:
    """Images or rows whose mixed inputs fit a cache: half of it, all, twice; none where the whole batch does."""
    image = x.numel() / x.shape[0] * x.element_size() * growth
    size = 2 ** round(math.log2(max(1.0, _CHUNK_BYTES / image)))
    return [chunk for chunk in (size // 2, size, 2 * size) if 0 < chunk < x.shape[0]]


def _decompose(layers: Mapping[str, PHLayer]) -> None:
    for layer in layers.values():
        if layer.rank is None and layer.algebra.learned and not layer.decomposed:
            layer.decompose()


def _dense(model: nn.Module, phase: str, memory_format: str) -> nn.Module:
    for layer in tunable_layers(model).values():
        layer._tuned[phase] = Plan("dense", memory_format if layer.F.dim() == 5 else "keep")
    return model.to(memory_format=_FORMATS[memory_format])


# ------------------------------------------------------------------------------------------------------- layers


def _tuned_layers(
    model: nn.Module, inputs: Sequence[Any], phase: str, memory_format: str, seconds_per_plan: float
) -> Tuning:
    layers = tunable_layers(model)
    received = _received(model, layers, inputs)
    plans: dict[str, Plan] = {}
    seconds: dict[str, dict[str, float]] = {}
    timed: dict[Any, dict[Plan, float]] = {}
    for name, x in received.items():
        layer = layers[name]
        key = _likeness(layer, x)
        if key not in timed:
            timed[key] = _plan_seconds(layer, x, candidates(layer, x, phase, memory_format), phase, seconds_per_plan)
        plans[name] = _choice(timed[key])
        seconds[name] = {str(plan): value for plan, value in timed[key].items()}
    return Tuning(phase, memory_format, plans, seconds)


def _received(model: nn.Module, layers: Mapping[str, PHLayer], inputs: Sequence[Any]) -> dict[str, Tensor]:
    """What each layer gets in one run of the model: the first call's input, formats kept."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in seen:
                x = args[0] if args else kwargs["input"]
                if not x.numel():
                    raise ValueError(f"{name or 'the layer'} receives no numbers, {tuple(x.shape)}: nothing to time")
                seen[name] = x.detach().clone()

        return hook

    hooks = [layer.register_forward_pre_hook(note(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _likeness(layer: PHLayer, x: Tensor) -> tuple[Any, ...]:
    """What two layers must share for one's times to be the other's."""
    made = (layer.extra_repr(), layer.F.shape, layer.F.dtype, layer._known_rank())
    return (*made, x.shape, x.stride(), x.dtype, x.device)


def _plan_seconds(
    layer: PHLayer, x: Tensor, plans: Sequence[Plan], phase: str, seconds_per_plan: float
) -> dict[Plan, float]:
    """Seconds of each plan: its fastest round, since whatever else runs on the machine only adds.

    A plan that a look finds far behind is not looked at again.
    """
    near = {str(plan): call for plan in plans if (call := _fitting_call(layer, x, plan, phase))}
    seconds = dict.fromkeys(near, math.inf)

    def time_near(stop: Callable[[Sequence[Round]], str | None]) -> None:
        samples = sample(near, stop, warmup=0, sync=_sync(x))
        seconds.update({name: min(seconds[name], *samples.seconds(name)) for name in near})

    for rounds, far in _LOOKS:
        time_near(_rounds(rounds))
        near = {name: call for name, call in near.items() if seconds[name] <= far * min(seconds.values())}
    time_near(_until(seconds_per_plan * len(near)))
    return {plan: seconds[str(plan)] for plan in plans if str(plan) in seconds}


def _fitting_call(layer: PHLayer, x: Tensor, plan: Plan, phase: str) -> Callable[[], object] | None:
    """A call of the plan that has run once; None if a GPU has no memory for it, unless it is ``dense``."""
    try:
        call = _call(layer, x, plan, phase)
        call()
    except torch.OutOfMemoryError:
        if plan.path == "dense":  # then there is no room for the layer at all
            raise
        return None
    return call


def _call(layer: PHLayer, x: Tensor, plan: Plan, phase: str) -> Callable[[], object]:
    # a twin for each plan, so that switching plans costs nothing and each keeps what it derives; parameters shared
    twin = copy.copy(layer)
    twin.__dict__.update(_tuned={phase: plan}, _cache=None)
    if phase == "infer":

        def infer() -> Tensor:
            with torch.inference_mode():
                return twin(x)

        return infer
    leaf = x.clone().requires_grad_()
    gradient = torch.ones_like(twin(leaf))
    wanted = [leaf, *(p for p in layer.parameters() if p.requires_grad)]
    return lambda: torch.autograd.grad(twin(leaf), wanted, gradient)


def _choice(seconds: Mapping[Plan, float]) -> Plan:
    dense = next(iter(seconds))
    best = min(seconds, key=lambda plan: seconds[plan])
    return best if seconds[best] < _MARGIN * seconds[dense] else dense


def _rounds(count: int) -> Callable[[Sequence[Round]], str | None]:
    return lambda rounds: "enough" if len(rounds) >= count else None


def _until(budget: float) -> Callable[[Sequence[Round]], str | None]:
    start = time.perf_counter()

    def stop(rounds: Sequence[Round]) -> str | None:
        return "budget" if len(rounds) >= _ROUNDS and time.perf_counter() - start > budget else None

    return stop


def _sync(x: Any) -> Callable[[], None]:
    """What waits until all that was launched for x has run: on the device of x, which need not be the current one."""
    if isinstance(x, Tensor) and x.device.type == "cuda":
        return partial(torch.cuda.synchronize, x.device)
    return no_sync


# -------------------------------------------------------------------------------------------------- the whole model


def _fastest(
    model: nn.Module, inputs: Sequence[Any], phase: str, found: Mapping[str, Tuning], seconds_per_plan: float
) -> Tuning:
    """The tuning whose model is fastest; all dense if none beats that."""
    dense = {
        f"dense {name}": Tuning(phase, name, dict.fromkeys(tuning.plans, PLAIN["dense"]))
        for name, tuning in found.items()
        if name in _FORMATS
    }
    options = {**dense, **found}
    calls = {name: _model_call(option.apply(copy.deepcopy(model)), inputs, phase) for name, option in options.items()}
    sync = _sync(next(model.parameters(), None))
    samples = sample(calls, _until(10 * seconds_per_plan * len(calls)), warmup=1, sync=sync)
    seconds = {name: min(samples.seconds(name)) for name in options}
    name = min(seconds, key=lambda name: seconds[name] * (_MARGIN if name in found else 1))
    plain = min(dense, key=lambda name: seconds[name])
    if name in found and not _beats(calls, name, plain, sync):
        name = plain
    # a dense model in the better format still has every layer's times to show
    best = options[name]
    times = found.get("mixed", found[best.memory_format]).seconds
    return Tuning(phase, best.memory_format, best.plans, times, seconds)


def _beats(calls: Mapping[str, Callable[[], object]], new: str, old: str, sync: Callable[[], None]) -> bool:
    """Whether ``new`` is faster in most rounds of a run-off: one lucky round out of many chooses no plan."""

    samples = sample({new: calls[new], old: calls[old]}, _rounds(_RUN_OFF), sync=sync)
    pairs = list(zip(samples.seconds(new), samples.seconds(old), strict=True))
    return sum(mine < theirs for mine, theirs in pairs) > len(pairs) / 2


def _mixed(contiguous: Tuning, last: Tuning) -> Tuning:
    """Each layer in the format that suits it. What the changes of format cost, the whole model's time will tell."""
    seconds = {name: {**contiguous.seconds[name], **last.seconds[name]} for name in last.plans}
    plans = {}
    for name, plan in last.plans.items():
        other = contiguous.plans[name]
        changes = seconds[name][str(other)] < _CHANGE * seconds[name][str(plan)]
        plans[name] = other if changes else plan
    return Tuning(last.phase, last.memory_format, plans, seconds)


def _model_call(model: nn.Module, inputs: Sequence[Any], phase: str) -> Callable[[], object]:
    if phase == "infer":

        def infer() -> Any:
            with torch.inference_mode():
                return model(*inputs)

        return infer
    parameters = [p for p in model.parameters() if p.requires_grad]

    def train() -> Any:
        outputs = [y for y in tree_leaves(model(*inputs)) if isinstance(y, Tensor) and y.requires_grad]
        total = torch.stack([y.sum() for y in outputs]).sum()
        return torch.autograd.grad(total, parameters, allow_unused=True)

    return train
