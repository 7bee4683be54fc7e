"""From a case to what is run: the module, its inputs, and one call of the case's phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from phnn.layers._base import PHLayer
from phnn.registry import find
from phnn.tuning import tune

from ..plan.case import Case
from .execution import runner

_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# how far a slim control's parameter count may be from that of the case that it controls
SLIM_TOLERANCE = 0.02


@dataclass
class Subject:
    """A case as built: ``call`` runs one forward, forward and backward, or training step on fixed inputs."""

    case: Case
    module: nn.Module
    inputs: tuple[Tensor, ...]
    call: Callable[[], Any]

    @property
    def plans(self) -> dict[str, str]:
        """How each tuned layer runs, by its name."""
        named = ((name, getattr(layer, "_tuned", {})) for name, layer in self.module.named_modules())
        return {name or "layer": str(plan) for name, tuned in named for plan in tuned.values()}

    @property
    def path_built(self) -> str:
        """The path that the layers ran, ``+`` between several, ``torch`` where there is no layer of ours."""
        built = {str(path) for m in self.module.modules() if (path := getattr(m, "path_built", None))}
        return "+".join(sorted(built)) or "torch"


def build_module(case: Case, device: str, controlled: Case | None = None) -> nn.Module:
    """The module of a case; ``controlled`` is the case that a slim control controls."""
    if case.control != "none":
        assert controlled is not None, f"{case.name} needs the case that it controls"
        case = replace(case, shape=_with(case, width_scale=slim_scale(controlled)))
    arguments: dict[str, Any] = {"device": device, "dtype": getattr(torch, case.dtype)}
    if case.algebra != "none":
        arguments["algebra"] = case.algebra
    if case.algebra == "ph":
        arguments["n"] = case.n
    if case.rank:
        arguments["rank"] = case.rank
    if case.path not in ("none", "tuned"):
        arguments["path"] = case.path
    return find(case.subject).build(case.axes, **arguments)


def build(case: Case, device: str, controlled: Case | None = None) -> Subject:
    """Module, inputs and call of a case, all from the seed of the case."""
    torch.manual_seed(case.seed)
    layout = _MEMORY_FORMATS[case.memory_format]
    module = build_module(case, device, controlled).to(memory_format=layout)
    inputs = find(case.subject).example_inputs(case.axes, device=device, dtype=getattr(torch, case.dtype))
    if case.memory_format == "channels_last":
        inputs = tuple(x.to(memory_format=layout) for x in inputs)
    subject = Subject(case, module, inputs, phase_call(case, module, inputs))
    _prepare(subject, device)
    if case.compile != "none" and device != "meta":
        _note_paths(subject)
    return subject


def _prepare(subject: Subject, device: str) -> None:
    """What a path needs before its first call: a forward pass never searches."""
    case, module = subject.case, subject.module
    if case.path == "tuned":
        if device == "meta":
            raise ValueError("a tuned case is measured to be built: it has no form on the meta device")
        tune(module, subject.inputs, phase="infer" if case.phase in ("infer", "none") else "train")
    # a graph cannot ask whether a learned rule is still the one that was decomposed: there it runs along dense
    eager = case.compile == "none"
    if case.path == "bilinear" and case.algebra == "ph" and not case.rank and case.phase == "infer" and eager:
        for layer in module.modules():
            if isinstance(layer, PHLayer):
                layer.decompose()


def _note_paths(subject: Subject) -> None:
    """A graph notes no path; the module as it is takes the same one, and notes it."""
    case = replace(subject.case, compile="none")
    with torch.set_grad_enabled(case.phase not in ("infer", "none")):
        runner(case, subject.module, subject.inputs[0].device.type)(*subject.inputs)


def _with(case: Case, **changes: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted({**dict(case.shape), **changes}.items()))


def first(output: Any) -> Tensor:
    """The output that is looked at: a recurrent or attention layer also returns its state or its weights."""
    return output[0] if isinstance(output, tuple) else output


def phase_call(case: Case, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    """One call of the case's phase: the forward pass, forward and backward, or a whole training step.

    Half precisions train without a gradient scaler: the gradient that enters is of order one.
    """
    run = runner(case, module, inputs[0].device.type)
    if case.phase in ("infer", "none"):
        module.eval()

        def infer() -> Tensor:
            with torch.inference_mode():
                return first(run(*inputs))

        return infer

    module.train()
    if case.kind == "layer":  # inside a net a layer passes its gradient on; a whole net's input is data
        for x in inputs:
            x.requires_grad_(True)

    drawn: list[Tensor] = []

    def cotangent(y: Tensor) -> Tensor:
        # a dense gradient that costs nothing to make and is the same number in every dtype
        if not drawn:
            generator = torch.Generator().manual_seed(case.seed)
            drawn.append(torch.randn(y.shape, generator=generator).bfloat16().to(y.device, y.dtype))
        return drawn[0]

    def forward_backward() -> Tensor:
        for tensor in (*module.parameters(), *inputs):
            tensor.grad = None
        y = first(run(*inputs))
        y.backward(cotangent(y))
        return y

    if case.phase == "forward_backward":
        return forward_backward

    parameters = list(module.parameters())
    if not parameters:  # dropout: a step is the two passes
        return forward_backward
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def train_step() -> Tensor:
        y = forward_backward()
        optimizer.step()
        return y

    return train_step


def count_params(module: nn.Module) -> int:
    """The number of trainable parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@cache
def slim_scale(controlled: Case) -> float:
    """The factor on a real net's widths that brings its parameter count nearest to that of ``controlled``.

    Raises ValueError if no integer widths come within SLIM_TOLERANCE.
    """
    target = count_params(build_module(controlled, "meta"))

    def params(scale: float) -> int:
        real = replace(controlled.real_twin, shape=_with(controlled, width_scale=scale))
        return count_params(build_module(real, "meta"))

    low, high = 0.0, dict(controlled.shape)["width_scale"]
    while params(high) < target:  # rules that are large beside the filters: the control is wider than the net
        low, high = high, 2 * high
    for _ in range(24):  # widths are rounded, so the count is a staircase: bisect to the step that crosses the target
        middle = (low + high) / 2
        low, high = (middle, high) if params(middle) < target else (low, middle)
    best = min((low, high), key=lambda scale: abs(params(scale) - target))
    if abs(params(best) - target) > SLIM_TOLERANCE * target:
        raise ValueError(
            f"no real net of integer widths comes within {SLIM_TOLERANCE:.0%} of {target} parameters: "
            f"the nearest has {params(best)}"
        )
    return best


def slim_details(case: Case, controlled: Case | None) -> dict[str, float]:
    """How far a slim control was narrowed: its factors hold the scale of what it controls."""
    return {"slim_width_scale": slim_scale(controlled)} if controlled else {}
