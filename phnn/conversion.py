"""Conversion: any model of torch.nn becomes hypercomplex, layer by layer, with a report of what changed and why not.

    name every layer of a class that has a twin (``_twins``)
        decide whether it changes: patterns, first and last, state of the layer, widths
        make its twin; ``project`` fills it with what comes nearest to the trained weight (``_projection``)
    copy the model, with each twin in the place of its layer

``phnn.to_real`` (module ``baking``) is the way back.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ._conversion_layers import (
    Chosen,
    Layer,
    check_module,
    check_patterns,
    computed_tensors,
    layers_of,
    names_of,
    owners_of,
)
from ._conversion_report import Conversion, LayerChange
from ._projection import Product, project_
from ._twins import quietly
from .algebras import Algebra, near_matches
from .algebras import algebra as find_algebra
from .layers.attention import PHTransformerEncoderLayer
from .layers.groups import ContiguousGroups
from .layers.linear import PHLinear

INITS = ("random", "project")
ENDS = ("convert", "real")


@torch.inference_mode(False)  # tensors made in inference mode could never be trained
def convert(
    model: nn.Module,
    algebra: str | Algebra = "ph",
    n: int | None = None,
    *,
    include: str | Sequence[str] = ("*",),
    exclude: str | Sequence[str] = (),
    first: str = "convert",
    last: str = "real",
    init: str = "random",
    path: str = "auto",
    rule: nn.Parameter | None = None,
    rule_init: str | Algebra | None = None,
    rank: int | None = None,
) -> Any:
    """A copy of ``model`` with layers over an algebra in the place of torch's; its ``conversion`` is the report.

    What changes: Linear, Conv1-3d, ConvTranspose1-3d, RNN, GRU, LSTM, MultiheadAttention, TransformerEncoderLayer, of
    exactly these classes. A layer stays real, with the reason in the report, where n does not divide its widths,
    where a pattern or the rule for the first or last layer says so, and where it is not torch's own any more: a
    subclass, hooks, parametrizations (weight norm, pruning, LoRA), a weight that another module shares. ``model``
    itself is not touched; the copy has its modes, dtypes, devices and ``requires_grad``, layer by layer. A module
    that the model uses at several places stays one module.

    n: of the learned ``ph``, 4 unless it is given. ``algebra="real"`` changes nothing. include, exclude: shell
    patterns of layer names, where * matches dots too; with several names a layer changes if one is included and none
    excluded. first, last: ``convert`` or ``real``, for the first layer in the model's order, and for the last if it
    is linear or a convolution, a classifier most often; a single layer has neither rule. init: ``random``, the
    layers' own initialisation; ``project``, A and F nearest to the weight as it is, biases copied. path, rule,
    rule_init, rank: those of the layers; ``project`` takes a shared rule as it stands, and finds A itself otherwise.

    Groups of a convolution stay torch's, consecutive channels (``ContiguousGroups``); a depthwise convolution, one
    channel a group, stays real. Raises ValueError for a name that is unknown, a pattern that matches no layer, a lazy
    layer without widths, and, with ``project``, for weights on meta or not finite.
    """
    check_module(model)
    found_algebra = _checked(algebra, n, init, first, last, path, rule, rule_init, rank)
    if hasattr(model, "conversion") and not isinstance(model.conversion, Conversion):
        raise ValueError(
            f"{type(model).__name__} has an attribute 'conversion' of its own, where the report would go"
        )
    options = {"path": path, "rule": rule, "rule_init": rule_init, "rank": rank}
    names = names_of(model)
    chosen = Chosen(found_algebra.n, _patterns(include), _patterns(exclude), options, names, owners_of(model))
    layers = list(layers_of(model, chosen))
    check_patterns(model, chosen)
    if found_algebra == find_algebra("real"):
        reasons: list[str | None] = ["algebra 'real' is torch's own"] * len(layers)
    else:
        reasons = _with_ends([layer.reason for layer in layers], layers, first, last)
    twins: dict[int, nn.Module] = {}
    memo = computed_tensors(model)
    changes = []
    for layer, reason in zip(layers, reasons, strict=True):
        old, error = layer.module, None
        if reason is None:
            new, error = _twin_of(layer, found_algebra, options, init, memo)
            twins[id(old)] = new
        changes.append(
            LayerChange(
                name=layer.name,
                kind=type(old).__name__,
                became=_class_name(twins[id(old)]) if reason is None else None,
                reason=reason,
                params_before=_count(old),
                params_after=_count(twins.get(id(old), old)),
                error=error,
                aliases=tuple(name for name in names[id(old)] if name != layer.name),
            )
        )
    # deepcopy takes what the memo holds for a layer, wherever the model refers to it: in a list of its own too
    memo.update(twins)
    converted = copy.deepcopy(model, memo)
    _without_nested_tensors(converted)
    converted.conversion = Conversion(  # type: ignore[assignment]
        found_algebra.name, found_algebra.n, init, tuple(changes), _count(model), _count(converted)
    )
    return converted


# --------------------------------------------------------------------------------------------------- arguments


def _checked(
    algebra: str | Algebra,
    n: int | None,
    init: str,
    first: str,
    last: str,
    path: str,
    rule: nn.Parameter | None,
    rule_init: str | Algebra | None,
    rank: int | None,
) -> Algebra:
    """The algebra, once all other arguments are right."""
    for name, value, known in (("init", init, INITS), ("first", first, ENDS), ("last", last, ENDS)):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}{near_matches(str(value), known)}")
    if n is None and rule is not None and rule.dim() == 3:
        n = rule.shape[0]
    if n is None and isinstance(algebra, str) and algebra.strip().lower() in ("ph", "phm"):
        n = 4
    found = find_algebra(algebra, n)
    if init == "project" and rule_init is not None:
        raise ValueError("init='project' finds A itself: leave rule_init out, or give a rule, which is kept as it is")
    if init == "project" and rank is not None:
        raise ValueError("init='project' finds a whole rule A, not its factors: leave rank out")
    if found != find_algebra("real"):
        place: dict[str, Any] = {} if rule is None else {"device": rule.device, "dtype": rule.dtype}
        with torch.random.fork_rng(devices=[]):  # the layer itself says what is wrong with its options
            PHLinear(found.n, found.n, algebra=found, path=path, rule=rule, rule_init=rule_init, rank=rank, **place)
    return found


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _with_ends(reasons: list[str | None], layers: list[Layer], first: str, last: str) -> list[str | None]:
    """The reasons, after the rules for the first and the last of several layers."""
    reasons = list(reasons)
    if len(layers) < 2:
        return reasons
    if last == "real" and layers[-1].twin is not None and layers[-1].twin.maps:
        reasons[-1] = reasons[-1] or "the last layer (last='real')"
    if first == "real":
        reasons[0] = reasons[0] or "the first layer (first='real')"
    return reasons


# -------------------------------------------------------------------------------------------------------- twins


def _twin_of(
    layer: Layer, algebra: Algebra, options: dict[str, Any], init: str, memo: dict[int, Any]
) -> tuple[nn.Module, float | None]:
    """The new layer, and its relative error if it was projected."""
    old, twin = layer.module, layer.twin
    assert twin is not None
    like = next(old.parameters())
    if init == "project":
        _check_values(layer)
    arguments = {**twin.arguments(old), "device": like.device, "dtype": like.dtype, "algebra": algebra}
    given = {name: value for name, value in options.items() if name != "rank" or value is not None}
    try:
        new = quietly(twin.target, **arguments, **given)
    except ValueError as error:
        raise ValueError(f"{layer.name or 'the model'}: {error}") from error
    new.train(old.training)
    for name in twin.carried:
        setattr(new, name, copy.deepcopy(getattr(old, name), memo))
    if getattr(old, "groups", 1) > 1:
        new = ContiguousGroups(new).train(old.training)
    with torch.enable_grad():  # so that parts of a weight ask for gradients if it does
        products, vectors = twin.products(old, new), twin.vectors(old, new)
    _follow_weights(products)
    _follow_biases(vectors, init)
    return new, _projected(products) if init == "project" else None


def _follow_weights(products: list[Product]) -> None:
    for product in products:
        for parameter in product.own:
            parameter.requires_grad_(product.trains)


def _follow_biases(vectors: Any, init: str) -> None:
    for source, target in vectors:
        if source is not None:
            target.requires_grad_(source.requires_grad)
            if init == "project":
                with torch.no_grad():
                    target.copy_(source)


def _projected(products: list[Product]) -> float:
    errors, sizes = zip(*(project_(product) for product in products), strict=True)
    return math.sqrt(sum(errors) / sum(sizes)) if sum(sizes) else math.sqrt(sum(errors))


def _check_values(layer: Layer) -> None:
    for name, parameter in layer.module.named_parameters():
        where = ".".join(filter(None, (layer.name, name)))
        if parameter.is_meta:
            raise ValueError(f"init='project' needs values, and {where} is on the meta device: choose init='random'")
        if not parameter.isfinite().all():
            raise ValueError(f"init='project': {where} is not finite")


def _class_name(new: nn.Module) -> str:
    return type(new.layer).__name__ if isinstance(new, ContiguousGroups) else type(new).__name__


# -------------------------------------------------------------------------------------------------------- model


def _without_nested_tensors(model: nn.Module) -> None:
    """torch's encoder makes nested tensors of padded ones for layers whose weights it can read."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and any(
            isinstance(layer, PHTransformerEncoderLayer) for layer in module.layers
        ):
            module.use_nested_tensor = False


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
