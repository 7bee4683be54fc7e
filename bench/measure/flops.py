"""Operation counts: the cost model's, and two second opinions with what they did not count.

A layer's own ``cost`` is the truth where it has one (ours do, by ``phnn.cost``), and FlopCounterMode's formulas are
for all other operators. fvcore and FlopCounterMode on the whole are metrics of their own: they miss operators, and
both miss different ones.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from phnn.cost import Cost
from phnn.registry import origin

from ..plan.case import Case
from ..task.subject import Subject


def costs(subject: Subject) -> Cost:
    """Multiply-adds of one forward call in the subject's phase: our layers by the path that runs, the rest by
    FlopCounterMode on meta tensors, where no fused kernel hides them (attention and LSTM have some on CPU).

    Which path ``auto`` takes depends on device, shapes and phase: then a call is made where the subject lives. Of
    other packages all is counted there, as their code may not run on the meta device: see ``uncounted``.
    """
    if is_strange(subject.case):
        return sum(_counted(subject), Cost())
    if not _shapes_tell_the_path(subject.case):
        ours, _ = _counted(subject)
        _, others = _counted(_on_meta(subject, path="dense"))
        return ours + others
    twin = _on_meta(subject)
    total = sum(_counted(twin), Cost())
    for layer, same in zip(subject.module.modules(), twin.module.modules(), strict=True):
        if hasattr(layer, "path_built"):
            layer.path_built = same.path_built
    return total


def is_strange(case: Case) -> bool:
    """Whether a case is of another package's layer or model."""
    return origin(case.subject).module != "phnn"


def _shapes_tell_the_path(case: Case) -> bool:
    """Whether a call on the meta device runs as on any other: the path is given, and needs no numbers of the rule."""
    if case.path == "bilinear":
        return case.algebra != "ph" or bool(case.rank)
    return case.path in ("none", "kron", "dense", "factored")


def _on_meta(subject: Subject, path: str | None = None) -> Subject:
    """The subject without its numbers; path: of its hypercomplex layers, where it is not their own."""
    module = copy.deepcopy(subject.module).to("meta")
    for layer in module.modules():
        if path and hasattr(layer, "path_built"):
            layer.__dict__.update(path=path, _tuned={})
    inputs = {id(x): x.detach().to("meta") for x in subject.inputs}  # one tensor given twice stays one
    return replace(subject, module=module, inputs=tuple(inputs[id(x)] for x in subject.inputs))


def _counted(subject: Subject) -> tuple[Cost, Cost]:
    """What one call takes: of the layers that know their cost, and of all the rest."""
    module = subject.module
    total = Cost()
    ours: set[str] = set()
    handles = []

    def count(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += layer.cost(inputs[0], output)

    for path, layer in module.named_modules():
        name = f"{type(module).__name__}.{path}" if path else type(module).__name__
        # parents come first, and a layer that knows its cost knows that of its parts
        if hasattr(layer, "cost") and not any(name.startswith(f"{parent}.") for parent in ours):
            ours.add(name)
            handles.append(layer.register_forward_hook(count))
    counter = FlopCounterMode(display=False)
    try:
        with counter, _counted_attention(), torch.set_grad_enabled(subject.case.phase not in ("infer", "none")):
            module(*subject.inputs)
    finally:
        for handle in handles:
            handle.remove()
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    others = (by_module.get("Global", 0) - sum(by_module.get(name, 0) for name in ours)) // 2
    return total, Cost(macs=others, macs_dense=others)


@contextmanager
def _counted_attention() -> Iterator[None]:
    """Torch's attention as products that have a formula, without the fused operator of inference, which has none."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class _Uncounted(TorchDispatchMode):
    """Tallies the operators that FlopCounterMode has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func._overloadpacket
        if (
            packet not in flop_registry
        ):  # in inference mode a linear arrives whole; the counter looks into it, as here
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        # views compute nothing, and the profiler's own marks are no operators
        if func.namespace == "aten" and packet not in flop_registry and not func.is_view:
            self.operators[str(packet)] += 1
        return func(*args, **(kwargs or {}))


def uncounted(subject: Subject) -> dict[str, int]:
    """How often a forward call runs each operator that FlopCounterMode, and so ``costs``, counts as nothing."""
    found = _Uncounted()
    with found, torch.no_grad():
        subject.module(*subject.inputs)
    return dict(sorted(found.operators.items()))


def flops_torch(subject: Subject) -> tuple[int, dict[str, int]]:
    """FlopCounterMode's FLOP of one call that builds its weights, and how often each operator ran uncounted."""
    for layer in subject.module.modules():
        if hasattr(layer, "clear_cache"):
            layer.clear_cache()  # type: ignore[operator]
    uncounted = _Uncounted()
    counter = FlopCounterMode(display=False)
    with counter, uncounted:
        subject.call()
    return counter.get_total_flops(), dict(sorted(uncounted.operators.items()))


def macs_fvcore(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[int, dict[str, int]]:
    """fvcore's MACs of one forward call, and the operators that it does not count.

    Raises ImportError where fvcore is not installed.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total()), dict(sorted(analysis.unsupported_ops().items()))
