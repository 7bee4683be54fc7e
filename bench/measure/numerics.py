"""Is the answer right? The relative error of what a case computes, against float64 along the plainest path."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..task.execution import runner
from ..task.subject import Subject, first, phase_call

VANISHED = 1e-3  # of the norm of all gradients: zeros in the place of more are no rounding


def errors(subject: Subject) -> dict[str, float]:
    """||y - y64|| / ||y64|| of one call: of its ``output``, and of all gradients as one, ``gradient``, when training.

    The reference has the same parameters and inputs, in float64, uncompiled, through naive sums of Kronecker
    products.
    """
    exact = _reference(subject)
    found = {"output": _relative([(_seeded(subject), _seeded(exact))])}
    if subject.case.phase != "infer":
        found["gradient"] = gradient_error(list(zip(_gradients(subject), _gradients(exact), strict=True)))
    return found


def gradient_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The relative error of all gradients as one; 1 or more where one of them has vanished, which is its own error.

    pairs: (g, g64) of each tensor. In a deep net in half precision a layer that learns nothing would hide behind the
    roundoff of the others. What carries less than ``VANISHED`` of their norm may be lost in it.
    """
    whole = math.sqrt(sum(float(exact.square().sum()) for _, exact in pairs))
    vanished = any(not mine.any() and float(exact.norm()) >= VANISHED * whole > 0 for mine, exact in pairs)
    return max(_relative(pairs), 1.0 if vanished else 0.0)


def departure(subject: Subject, call: Callable[[], Any]) -> float | None:
    """||y - y1|| / ||y1||: y is what ``call`` computes, y1 what the module computes as it is, on one thread.

    As it is: uncompiled, launched op by op, from parameters as they are before the call; its weights are built anew.
    None where random numbers are drawn: a compiler, a graph or another number of threads may draw others.
    """
    case, inputs = subject.case, subject.inputs
    run = runner(replace(case, compile="none"), copy.deepcopy(subject.module), inputs[0].device.type)
    threads, before = torch.get_num_threads(), _generators(inputs[0])
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(case.phase in ("infer", "none")):
            alone = first(run(*inputs)).detach().double()
    finally:
        torch.set_num_threads(threads)
    if not all(map(torch.equal, before, _generators(inputs[0]))):
        return None
    return _relative([(first(call()).detach(), alone)])


def _generators(like: Tensor) -> list[Tensor]:
    """The states of the generators that a call may draw from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(like.device)] if like.is_cuda else [])]


def numeric_error(subject: Subject) -> float:
    """The error of what the phase is for: of the gradients when training, else of the output."""
    found = errors(subject)
    return found.get("gradient", found["output"])


def _relative(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    difference = sum(float((mine.double() - reference).square().sum()) for mine, reference in pairs)
    scale = sum(float(reference.square().sum()) for _, reference in pairs)
    return math.sqrt(difference / scale) if scale else math.sqrt(difference)


def depth(module: nn.Module) -> int:
    """How many layers of a module have weights: matrices or filters of their own."""
    return sum(any(p.dim() > 1 for p in layer.parameters(recurse=False)) for layer in module.modules())


def _seeded(subject: Subject) -> Tensor:
    """One call, with the same dropout masks each time."""
    torch.manual_seed(subject.case.seed)
    output: Tensor = subject.call()
    return output.detach()


def _reference(subject: Subject) -> Subject:
    module = copy.deepcopy(subject.module).double()
    for layer in module.modules():
        if hasattr(layer, "path_built"):
            layer.path = "kron"  # type: ignore[assignment]
    # one tensor given twice (query, key and value) stays one tensor, and has one gradient
    doubles = {id(x): x.detach().double() for x in subject.inputs}
    inputs = tuple(doubles[id(x)] for x in subject.inputs)
    case = replace(subject.case, dtype="float64", compile="none", precision="none")
    return Subject(case, module, inputs, phase_call(case, module, inputs))


def _gradients(subject: Subject) -> list[Tensor]:
    tensors = [*subject.module.parameters(), *subject.inputs]
    gradients = [t.grad for t in tensors if t.requires_grad]
    assert all(g is not None for g in gradients), f"{subject.case.name}: a parameter received no gradient"
    return [g.detach().clone() if isinstance(g, torch.Tensor) else torch.empty(0) for g in gradients]
