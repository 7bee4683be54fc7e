"""Twins: for each class of torch.nn that ``convert`` swaps, the hypercomplex layer, and what each parameter becomes.

Knows one layer at a time; nothing of models, patterns or reports.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ._projection import Product
from .functional import BUILDS_W, ungroup
from .layers.attention import PHMultiheadAttention, PHTransformerEncoderLayer
from .layers.conv import PHConv1d, PHConv2d, PHConv3d
from .layers.conv_transpose import PHConvTranspose1d, PHConvTranspose2d, PHConvTranspose3d
from .layers.groups import ContiguousGroups, to_components
from .layers.linear import PHLinear
from .layers.recurrent import PHGRU, PHLSTM, PHRNN
from .plan import PATHS

Vectors = list[tuple[Tensor | None, Tensor | None]]  # (of torch's layer, in the new order; of the new layer)


@dataclass(frozen=True)
class Twin:
    """How one class of torch.nn becomes hypercomplex.

    target: the class that takes its place; arguments: what torch's layer was made with, as keywords of both classes;
    widths: the numbers that n must divide, by name; products: its weights, each with the pair (A, F) of the new
    layer; vectors: its biases, each with that of the new layer; carried: submodules that stay as they are;
    paths: those that the new layer can run along; ranked: whether it takes ``rank``; maps: whether the layer is one
    linear map, as a classifier is. arguments of linear, convolution and recurrent layers read either layer.
    """

    target: type[nn.Module]
    arguments: Callable[[Any], dict[str, Any]]
    widths: Callable[[Any], dict[str, int]]
    products: Callable[[Any, Any], list[Product]]
    vectors: Callable[[Any, Any], Vectors]
    carried: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=PATHS)
    ranked: bool = True
    maps: bool = True


def _of_layer(weight: Tensor, new: Any) -> Product:
    """A weight, whose rows and columns are component-major, and the PH layer that it belongs to."""
    rule = ("a", "b", "c") if new.rank else ("A",) if new.algebra.learned and not new.rule_shared else ()
    own = (new.F, *(getattr(new, name) for name in rule))
    A, F = new.factors()[0]
    return Product(weight, A, F, own, weight.requires_grad, new.transposed)


# --------------------------------------------------------------------------------------------- linear, convolution


def _linear_arguments(old: Any) -> dict[str, Any]:
    return {"in_features": old.in_features, "out_features": old.out_features, "bias": old.bias is not None}


def _linear_products(old: nn.Linear, new: PHLinear) -> list[Product]:
    return [_of_layer(old.weight, new)]


def _conv_arguments(old: Any) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {**{name: getattr(old, name) for name in names}, "bias": old.bias is not None}


def _conv_transpose_arguments(old: Any) -> dict[str, Any]:
    return {**_conv_arguments(old), "output_padding": old.output_padding}


def _conv_widths(old: Any) -> dict[str, int]:
    per_group = " per group" if old.groups > 1 else ""
    return {
        f"in_channels{per_group}": old.in_channels // old.groups,
        f"out_channels{per_group}": old.out_channels // old.groups,
    }


def _conv_products(old: Any, new: Any) -> list[Product]:
    if not isinstance(new, ContiguousGroups):
        return [_of_layer(old.weight, new)]
    n = new.layer.n
    return [_of_layer(to_components(to_components(old.weight, n, 0), n, 1), new.layer)]


def _conv_vectors(old: Any, new: Any) -> Vectors:
    if old.bias is None or not isinstance(new, ContiguousGroups):
        return [(old.bias, new.bias)]
    return [(to_components(old.bias, new.layer.n, 0), new.layer.bias)]


# ---------------------------------------------------------------------------------------------------- recurrent


def _recurrent_arguments(old: Any) -> dict[str, Any]:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    return {name: getattr(old, name) for name in names}


def _recurrent_products(old: nn.RNNBase, new: Any) -> list[Product]:
    """A gate is a group of rows; what enters a later bidirectional layer is (direction, component, index)."""
    products = []
    for name, (A, F) in zip(new.weights(), new.factors(), strict=True):
        weight = ungroup(getattr(old, name), new.n, new.gates, 0)
        if new.bidirectional and name.startswith("weight_ih") and not name.startswith("weight_ih_l0"):
            weight = ungroup(weight, new.n, 2, 1)
        own = (A, F) if new.algebra.learned and not new.rule_shared else (F,)
        products.append(Product(weight, A, F, own, weight.requires_grad))
    return products


def _recurrent_vectors(old: nn.RNNBase, new: Any) -> Vectors:
    names = [name for name, _ in new.named_parameters() if name.startswith("bias")]
    return [(getattr(old, name), getattr(new, name)) for name in names]


# ---------------------------------------------------------------------------------------------------- attention


def _attention_arguments(old: nn.MultiheadAttention) -> dict[str, Any]:
    names = ("embed_dim", "num_heads", "dropout", "add_zero_attn", "kdim", "vdim", "batch_first")
    added = {"bias": old.in_proj_bias is not None, "add_bias_kv": old.bias_k is not None}
    return {**{name: getattr(old, name) for name in names}, **added}


def _attention_widths(old: nn.MultiheadAttention) -> dict[str, int]:
    widths = {"embed_dim per head": old.embed_dim // old.num_heads}
    return widths | {name: getattr(old, name) for name in ("kdim", "vdim") if getattr(old, name) != old.embed_dim}


def projections(old: nn.MultiheadAttention) -> list[Tensor]:
    """The weights of q, k and v, which torch stacks where their widths are equal."""
    if old.in_proj_weight is not None:
        return list(old.in_proj_weight.chunk(3))
    return [old.q_proj_weight, old.k_proj_weight, old.v_proj_weight]


def _attention_products(old: nn.MultiheadAttention, new: PHMultiheadAttention) -> list[Product]:
    """A head of torch is a group of features, here it is a share of every component: the same up to their order."""
    n, heads = new.n, new.num_heads
    pairs = [(ungroup(W, n, heads, 0), layer) for W, layer in zip(projections(old), _inner(new)[:3], strict=True)]
    pairs.append((ungroup(old.out_proj.weight, n, heads, 1), new.out_proj))
    return [_of_layer(W, layer) for W, layer in pairs]


def _inner(new: PHMultiheadAttention) -> list[Any]:
    return [new.q_proj, new.k_proj, new.v_proj, new.out_proj]


def _attention_vectors(old: nn.MultiheadAttention, new: PHMultiheadAttention) -> Vectors:
    n, heads = new.n, new.num_heads
    pairs: Vectors = [(old.out_proj.bias, new.out_proj.bias)]
    if old.in_proj_bias is not None:
        for bias, layer in zip(old.in_proj_bias.chunk(3), _inner(new)[:3], strict=True):
            pairs.append((ungroup(bias, n, heads, 0), layer.bias))
    for name in ("bias_k", "bias_v"):
        if (extra := getattr(old, name)) is not None:
            pairs.append((ungroup(extra, n, heads, -1), getattr(new, name)))
    return pairs


def _encoder_arguments(old: nn.TransformerEncoderLayer) -> dict[str, Any]:
    return {
        "d_model": old.linear1.in_features,
        "nhead": old.self_attn.num_heads,
        "dim_feedforward": old.linear1.out_features,
        "dropout": old.self_attn.dropout,
        "activation": old.activation,
        "batch_first": old.self_attn.batch_first,
        "norm_first": old.norm_first,
        "bias": old.linear1.bias is not None,
    }


def _encoder_widths(old: nn.TransformerEncoderLayer) -> dict[str, int]:
    return {**_attention_widths(old.self_attn), "dim_feedforward": old.linear1.out_features}


def _encoder_products(old: nn.TransformerEncoderLayer, new: PHTransformerEncoderLayer) -> list[Product]:
    linear = [*_linear_products(old.linear1, new.linear1), *_linear_products(old.linear2, new.linear2)]
    return [*_attention_products(old.self_attn, new.self_attn), *linear]


def _encoder_vectors(old: nn.TransformerEncoderLayer, new: PHTransformerEncoderLayer) -> Vectors:
    linear = [(old.linear1.bias, new.linear1.bias), (old.linear2.bias, new.linear2.bias)]
    return [*_attention_vectors(old.self_attn, new.self_attn), *linear]


# -------------------------------------------------------------------------------------------------------- table


def _conv(target: type[nn.Module], arguments: Callable[[Any], dict[str, Any]] = _conv_arguments) -> Twin:
    return Twin(target, arguments, _conv_widths, _conv_products, _conv_vectors)


def _recurrent(target: type[nn.Module], *more: str) -> Twin:
    return Twin(
        target,
        lambda old: {**_recurrent_arguments(old), **{name: getattr(old, name) for name in more}},
        lambda old: {"input_size": old.input_size, "hidden_size": old.hidden_size},
        _recurrent_products,
        _recurrent_vectors,
        paths=BUILDS_W,
        ranked=False,
        maps=False,
    )


TWINS: dict[type[nn.Module], Twin] = {
    nn.Linear: Twin(
        PHLinear,
        _linear_arguments,
        lambda old: {"in_features": old.in_features, "out_features": old.out_features},
        _linear_products,
        lambda old, new: [(old.bias, new.bias)],
    ),
    nn.Conv1d: _conv(PHConv1d),
    nn.Conv2d: _conv(PHConv2d),
    nn.Conv3d: _conv(PHConv3d),
    nn.ConvTranspose1d: _conv(PHConvTranspose1d, _conv_transpose_arguments),
    nn.ConvTranspose2d: _conv(PHConvTranspose2d, _conv_transpose_arguments),
    nn.ConvTranspose3d: _conv(PHConvTranspose3d, _conv_transpose_arguments),
    nn.RNN: _recurrent(PHRNN, "nonlinearity"),
    nn.GRU: _recurrent(PHGRU),
    nn.LSTM: _recurrent(PHLSTM),
    nn.MultiheadAttention: Twin(
        PHMultiheadAttention,
        _attention_arguments,
        _attention_widths,
        _attention_products,
        _attention_vectors,
        ranked=False,
        maps=False,
    ),
    nn.TransformerEncoderLayer: Twin(
        PHTransformerEncoderLayer,
        _encoder_arguments,
        _encoder_widths,
        _encoder_products,
        _encoder_vectors,
        carried=("norm1", "norm2", "dropout", "dropout1", "dropout2"),
        ranked=False,
        maps=False,
    ),
}


def quietly(make: Any, **arguments: Any) -> Any:
    """A layer with the arguments of another, whose warnings came when that was made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(**arguments)
