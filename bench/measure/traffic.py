"""How much arithmetic a call has for each byte that it must move: the two numbers that a roof is drawn for.

    FLOP   infer: 2 macs, and 2 macs_weight_build on the path kron, which builds its weights in every call
           forward_backward, train_step: 3 x 2 (macs + macs_weight_build): each product has two gradients, as large;
           but for those that nobody asks for: of the input of a net's first layer, of a fixed rule
    bytes  infer: every layer that multiplies reads its input and its weights, as its path applies them, and writes
           its output, each once
           forward_backward: 3 times that (the gradient of the input, that of the weights), of a first layer twice
           train_step: 5 times the parameters more (SGD with momentum reads three tensors and writes two)

Both come from the cost model and from shapes, in the dtypes of the tensors. Bytes are the least that a call can do
with: norms, activations and sums between layers count as fused into them, the intermediate tensors of a path as kept
in cache. Where it is not told apart what has no gradient (the products of a recurrent first layer with its own state
have one), the fewer FLOP are taken. So a roof stands too high rather than too low, and the share of it that is
reached is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from phnn.cost import Cost

from ..plan.case import Case
from ..task.subject import Subject

_BACKWARD = 3  # a call forward and backward, over one forward: a product and its two gradients
_OPTIMIZER = 5  # passes over the parameters of a step of SGD with momentum: p, g, m read, p, m written


@dataclass(frozen=True)
class Traffic:
    """FLOP of one call in the subject's phase, and the bytes that it must move."""

    flop: int
    bytes: int

    @property
    def intensity(self) -> float | None:
        """FLOP/B; None where nothing multiplies."""
        return self.flop / self.bytes if self.flop and self.bytes else None


@dataclass(frozen=True)
class _Part:
    """What one layer adds. bytes: of its forward call; passes_on: whether its input has a gradient; spared:
    multiply-adds of gradients that nobody asks for."""

    bytes: int
    passes_on: bool
    spared: int


def traffic(subject: Subject, cost: Cost) -> Traffic:
    """What one call of the subject's phase takes, given the cost of its forward pass."""
    case, parts = subject.case, _parts(subject)
    if _infers(case):
        built = cost.macs_weight_build if case.path == "kron" else 0
        return Traffic(2 * (cost.macs + built), sum(part.bytes for part in parts))
    moved = sum(part.bytes * (_BACKWARD if part.passes_on else _BACKWARD - 1) for part in parts)
    if case.phase == "train_step":
        moved += _OPTIMIZER * sum(p.numel() * p.element_size() for p in subject.module.parameters())
    macs = _BACKWARD * (cost.macs + cost.macs_weight_build) - sum(part.spared for part in parts)
    return Traffic(2 * macs, moved)


def _parts(subject: Subject) -> list[_Part]:
    """All layers that multiply, as one forward call meets them; a layer that is called twice is met twice."""
    found: list[_Part] = []
    counters: dict[nn.Module, FlopCounterMode] = {}

    def begin(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not _infers(subject.case) and not hasattr(layer, "cost"):
            counters[layer] = FlopCounterMode(display=False)
            counters[layer].__enter__()

    def end(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if layer in counters:
            counters[layer].__exit__(None, None, None)
        moved = _bytes(inputs) + _bytes(output) + _weight_bytes(layer, inputs, output)
        passes_on = any(tensor.requires_grad for tensor in _flat(inputs))
        spared = 0 if _infers(subject.case) else _spared(layer, inputs, output, passes_on, counters.pop(layer, None))
        found.append(_Part(moved, passes_on, spared))

    handles = []
    for layer in multiplying(subject.module):
        handles += [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]
    try:
        with torch.set_grad_enabled(not _infers(subject.case)):
            subject.module(*subject.inputs)
    finally:
        for handle in handles:
            handle.remove()
        for counter in counters.values():  # of a layer that raised
            counter.__exit__(None, None, None)
    return found


def _spared(
    layer: nn.Module, inputs: tuple[Any, ...], output: Any, passes_on: bool, counter: FlopCounterMode | None
) -> int:
    """Multiply-adds of a layer's gradients that nobody asks for: of its input, of a rule that is not learned."""
    if counter is not None:
        if isinstance(layer, nn.RNNBase):  # fused: the counter sees none of its products
            (data, *_) = _flat(inputs)
            weights = sum(p.numel() for p in layer.parameters() if p.dim() > 1)
            return 0 if passes_on else weights * (data.numel() // layer.input_size)
        return 0 if passes_on else counter.get_total_flops() // 2
    cost: Cost = layer.cost(inputs[0], output)  # type: ignore[operator]
    spared = 0 if passes_on else cost.macs
    if not getattr(getattr(layer, "algebra", None), "learned", True):
        spared += cost.macs_weight_build + _mixing(layer, cost)
    return spared


def _mixing(layer: nn.Module, cost: Cost) -> int:
    """What a layer's path multiplies by the rule besides building weights: its inputs and outputs."""
    path = getattr(layer, "path_built", None)
    if path == "factored":
        return cost.macs - cost.macs_dense
    if path != "bilinear":
        return 0
    whole: int = layer.n * layer.F.numel()  # type: ignore[operator, assignment]
    return cost.macs - cost.macs_dense * cost.weights // whole


def multiplying(module: nn.Module) -> list[nn.Module]:
    """The layers whose traffic is counted: those that know their cost and those that are a matrix, parts left out."""
    found: dict[str, nn.Module] = {}
    for name, layer in module.named_modules():  # parents come first
        within = any(not parent or name.startswith(f"{parent}.") for parent in found)
        if not within and _multiplies(layer):
            found[name] = layer
    return list(found.values())


def _multiplies(layer: nn.Module) -> bool:
    if hasattr(layer, "cost") or isinstance(layer, nn.MultiheadAttention):
        return True
    # a net may hold a matrix of its own (positions): what it moves is what its layers do
    return not any(layer.children()) and any(p.dim() > 1 for p in layer.parameters())


def _infers(case: Case) -> bool:
    return case.phase in ("infer", "none")


def _weight_bytes(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> int:
    matrices = [p for p in layer.parameters() if p.dim() > 1]  # a bias is nothing beside them
    if not hasattr(layer, "cost"):
        return _bytes(matrices)
    cost: Cost = layer.cost(inputs[0], output)  # type: ignore[operator]
    return cost.weights * matrices[0].element_size()


def _bytes(tensors: Any) -> int:
    """Bytes of all tensors in nested tuples, one that is given twice (query, key and value) once."""
    return sum({id(t): t.numel() * t.element_size() for t in _flat(tensors)}.values())


def _flat(tensors: Any) -> Iterable[Tensor]:
    if isinstance(tensors, Tensor):
        yield tensors
    elif isinstance(tensors, list | tuple):  # a packed sequence is a tuple too
        for item in tensors:
            yield from _flat(item)
