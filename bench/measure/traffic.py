"""How much arithmetic a call has for each byte that it must move: the two numbers that a roof is drawn for.

    FLOP   infer: 2 macs, and 2 macs_weight_build on the path kron, which builds its weights in every call
           forward_backward, train_step: 3 x 2 (macs + macs_weight_build): each product has two gradients, as large
    bytes  infer: every layer that multiplies reads its input and its weights, as its path applies them, and writes
           its output, each once
           forward_backward: 3 times that (the gradient of the input, that of the weights)
           train_step: 5 times the parameters more (SGD with momentum reads three tensors and writes two)

Both come from the cost model and from shapes, in the dtypes of the tensors. Bytes are the least that a call can do
with: norms, activations and sums between layers count as fused into them, the intermediate tensors of a path as kept
in cache. So a roof stands too high rather than too low, and the share of it that is reached is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phnn.cost import Cost

from ..case import Case
from ..subject import Subject

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


def traffic(subject: Subject, cost: Cost) -> Traffic:
    """What one call of the subject's phase takes, given the cost of its forward pass."""
    case, moved = subject.case, forward_bytes(subject)
    if case.phase in ("infer", "none"):
        return Traffic(2 * (cost.macs + (cost.macs_weight_build if case.path == "kron" else 0)), moved)
    moved *= _BACKWARD
    if case.phase == "train_step":
        moved += _OPTIMIZER * sum(p.numel() * p.element_size() for p in subject.module.parameters())
    return Traffic(2 * _BACKWARD * (cost.macs + cost.macs_weight_build), moved)


def forward_bytes(subject: Subject) -> int:
    """Bytes of inputs, weights and outputs of all layers that multiply, in one forward call, each layer's once."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += _bytes(inputs) + _bytes(output) + _weight_bytes(layer, inputs, output)

    handles = [layer.register_forward_hook(count) for layer in multiplying(subject.module)]
    try:
        with torch.set_grad_enabled(not _infers(subject.case)):
            subject.module(*subject.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return total


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
