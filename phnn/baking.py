"""Baking: every hypercomplex layer of a model becomes the layer of torch.nn that computes the same, weights built.

Knows layers and nothing of conversion but its report, which does not stay on a model that is to be free of phnn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ._conversion_layers import check_module, computed_tensors, why_altered
from ._conversion_report import Conversion
from ._twins import TWINS, quietly
from .functional import regroup
from .layers._base import OverAlgebra
from .layers.attention import PHMultiheadAttention, PHTransformerEncoderLayer
from .layers.conv import PHConv1d, PHConv2d, PHConv3d
from .layers.conv_transpose import PHConvTranspose1d, PHConvTranspose2d, PHConvTranspose3d
from .layers.dropout import PHDropout, PHDropout1d, PHDropout2d, PHDropout3d
from .layers.groups import ContiguousGroups, contiguous_weight, to_neighbours
from .layers.linear import PHLinear
from .layers.norm import PHBatchNorm1d, PHBatchNorm2d, PHBatchNorm3d
from .layers.recurrent import PHGRU, PHLSTM, PHRNN
from .layers.rotation import QuaternionRotationConv2d, QuaternionRotationLinear
from .layers.whitening import PHWhitening1d, PHWhitening2d, PHWhitening3d

_DROPOUTS = (PHDropout, PHDropout1d, PHDropout2d, PHDropout3d)
_WHITENINGS = (PHWhitening1d, PHWhitening2d, PHWhitening3d)
_CONVS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.inference_mode(False)  # tensors made in inference mode could never be trained
def to_real(model: nn.Module) -> Any:
    """A copy of ``model`` whose hypercomplex layers are torch.nn's, with the same outputs; ``model`` is not touched.

    Weights W are built once and stored, so that the copy has a real net's parameters. Modes, dtypes, devices and
    ``requires_grad`` stay. A model that ``convert`` made has its first structure again: the same state_dict names and
    shapes, and nothing of phnn left in it, so that it loads where phnn is not installed. A model of ``phnn.models``
    keeps its class, which is phnn's: ``torch.export.export`` it after ``to_real``, and what is saved needs torch
    alone.

    What torch has no twin for becomes what computes the same:
    a convolution with groups: ``ChannelShuffle``, the grouped convolution, ``ChannelShuffle`` (batched input alone;
    one from ``convert``: the convolution itself);
    ``PHBatchNorm``: torch's, whose scales, no longer shared, would part in further training;
    rotations: linear and convolution layers;
    ``PHWhitening``, in eval mode with running statistics: the same with a convolution of one pixel; the 1d one takes
    (batch, channels, length) alone;
    ``PHDropout``, in eval mode: torch's, which would drop each component by itself in further training.
    Raises ValueError that names the module for the last two in training mode, for hooks and parametrizations on a
    layer, which would be lost, and for a hypercomplex layer that is not phnn's own, a subclass say.
    """
    check_module(model)
    memo = computed_tensors(model)
    whole: list[str] = []
    for name, module in model.named_modules():
        if any(outer == "" or name.startswith(f"{outer}.") for outer in whole):
            continue
        bake = _BAKED.get(type(module))
        if bake is None and not isinstance(module, OverAlgebra):
            continue
        where = f"{name or 'the model'} ({type(module).__name__})"
        if altered := why_altered(module):
            raise ValueError(f"{where} has {altered}, which would be lost: remove them before")
        if bake is None:
            raise ValueError(f"{where} is none of phnn's own layers: replace it by one, or by torch's, before")
        try:
            with torch.no_grad():
                real = bake(module)
        except _NoTwinError as error:
            raise ValueError(f"{where} {error}") from None
        if not isinstance(module, PHTransformerEncoderLayer):  # its parts may differ
            real.train(module.training)
        memo[id(module)] = real
        whole.append(name)
    baked = copy.deepcopy(model, memo)
    for module in baked.modules():
        if isinstance(vars(module).get("conversion"), Conversion):
            del module.conversion
    return baked


class _NoTwinError(ValueError):
    """Why a layer, as it is now, has no twin in torch.nn."""


def _holding(real: nn.Module, like: Tensor, **values: Tensor | None) -> nn.Module:
    """``real`` with these parameters and buffers, by their names."""
    for name, value in values.items():
        if value is None:
            real.register_parameter(name, None)
        elif name in real._buffers:
            real.register_buffer(name, value.detach().clone())
        else:
            setattr(real, name, nn.Parameter(value.detach().clone(), like.requires_grad))
    return real


def _made(real: type[Any], **arguments: Any) -> Any:
    return quietly(real, **arguments, device="meta")


# --------------------------------------------------------------------------------------------- linear, convolution


def _linear(layer: Any) -> nn.Module:
    real = _made(nn.Linear, **TWINS[nn.Linear].arguments(layer))
    return _with_bias(_holding(real, layer.F, weight=layer.weight), layer, layer.bias)


def _with_bias(real: nn.Module, layer: Any, bias: Tensor | None) -> nn.Module:
    return real if layer.bias is None else _holding(real, layer.bias, bias=bias)


def _conv(layer: Any) -> nn.Module:
    """Groups of torch are consecutive channels: between shuffles, the components of a number lie side by side."""
    real = _made(layer.namesake, **TWINS[layer.namesake].arguments(layer))
    if layer.groups == 1:
        return _with_bias(_holding(real, layer.F, weight=layer.weight), layer, layer.bias)
    n = layer.n
    return nn.Sequential(nn.ChannelShuffle(n), _grouped(layer, real), nn.ChannelShuffle(layer.out_channels // n))


def _grouped(layer: Any, real: nn.Module) -> nn.Module:
    bias = None if layer.bias is None else to_neighbours(layer.bias, layer.n, 0)
    return _with_bias(_holding(real, layer.F, weight=contiguous_weight(layer)), layer, bias)


def _contiguous_groups(module: ContiguousGroups) -> nn.Module:
    layer: Any = module.layer
    return _grouped(layer, _made(layer.namesake, **TWINS[layer.namesake].arguments(layer)))


# ---------------------------------------------------------------------------------------- recurrent, attention


def _recurrent(layer: Any) -> nn.Module:
    real = _made(layer.namesake, **TWINS[layer.namesake].arguments(layer))
    for name, weight in layer.weights().items():
        _holding(real, getattr(layer, name.replace("weight", "F")), **{name: weight})
    for name, bias in layer.named_parameters():
        if name.startswith("bias"):
            _holding(real, bias, **{name: bias})
    real.flatten_parameters()
    return real


def _attention(layer: PHMultiheadAttention) -> nn.Module:
    """torch's heads are groups of features: rows of q, k and v and columns of out_proj change their order."""
    n, heads = layer.n, layer.num_heads
    inner: list[Any] = [layer.q_proj, layer.k_proj, layer.v_proj]
    if altered := next((p for p in (*inner, layer.out_proj) if type(p) is not PHLinear), None):
        raise _NoTwinError(f"has a projection of class {type(altered).__name__}, not PHLinear")
    real: Any = _made(
        nn.MultiheadAttention,
        embed_dim=layer.embed_dim,
        num_heads=heads,
        dropout=layer.dropout,
        bias=inner[0].bias is not None,
        add_bias_kv=layer.bias_k is not None,
        add_zero_attn=layer.add_zero_attn,
        kdim=layer.kdim,
        vdim=layer.vdim,
        batch_first=layer.batch_first,
    )
    weights = [regroup(p.weight, n, heads, 0) for p in inner]
    if real.in_proj_weight is not None:
        _holding(real, inner[0].F, in_proj_weight=torch.cat(weights))
    else:
        for letter, projection, weight in zip("qkv", inner, weights, strict=True):
            _holding(real, projection.F, **{f"{letter}_proj_weight": weight})
    if inner[0].bias is not None:
        _holding(real, inner[0].bias, in_proj_bias=torch.cat([regroup(p.bias, n, heads, 0) for p in inner]))
    for name in ("bias_k", "bias_v"):
        if (extra := getattr(layer, name)) is not None:
            _holding(real, extra, **{name: regroup(extra, n, heads, -1)})
    out: Any = layer.out_proj
    _holding(real.out_proj, out.F, weight=regroup(out.weight, n, heads, 1))
    _with_bias(real.out_proj, out, out.bias)
    return real


def _encoder(layer: PHTransformerEncoderLayer) -> nn.Module:
    parts: list[Any] = [layer.self_attn, layer.linear1, layer.linear2]
    if [type(part) for part in parts] != [PHMultiheadAttention, PHLinear, PHLinear]:
        raise _NoTwinError(
            f"is made of {', '.join(type(part).__name__ for part in parts)}: bake these, in a class of yours"
        )
    attention, linear1, linear2 = parts
    real = _made(
        nn.TransformerEncoderLayer,
        d_model=attention.embed_dim,
        nhead=attention.num_heads,
        dim_feedforward=linear1.out_features,
        dropout=attention.dropout,
        activation=layer.activation,
        batch_first=attention.batch_first,
        norm_first=layer.norm_first,
        bias=linear1.bias is not None,
    )
    real.train(layer.training)
    real.self_attn, real.linear1, real.linear2 = _attention(attention), _linear(linear1), _linear(linear2)
    for name, part in zip(("self_attn", "linear1", "linear2"), parts, strict=True):
        getattr(real, name).train(part.training)
    for name in TWINS[nn.TransformerEncoderLayer].carried:
        setattr(real, name, copy.deepcopy(getattr(layer, name)))
    return real


# ------------------------------------------------------------------------------------- normalisation, dropout


def _batch_norm(layer: Any) -> nn.Module:
    names = ("num_features", "eps", "momentum", "affine", "track_running_stats")
    real = _made(layer.namesake, **{name: getattr(layer, name) for name in names})
    if layer.affine:
        _holding(real, layer.weight, weight=layer.weight.repeat(layer.n))
        _holding(real, layer.weight if layer.bias is None else layer.bias, bias=layer.bias)
    for name, value in layer.named_buffers():
        _holding(real, value, **{name: value})
    return real


def _whitening(layer: Any) -> nn.Module:
    if layer.training or layer.running_mean is None:
        raise _NoTwinError("whitens by the batch's statistics, which nothing in torch.nn does: call .eval() before")
    n, features = layer.n, layer.num_features
    M, offset = layer._running_mixing(layer.running_mean.dtype)
    dims = max(layer.dims) - 2
    conv = _made(_CONVS[dims - 1], in_channels=features, out_channels=features, kernel_size=1, groups=features // n)
    like = layer.running_mean if layer.weight is None else layer.weight
    weight = M.reshape(features, n, *(1,) * dims)
    _holding(conv, like, weight=weight, bias=offset.reshape(-1)).train(layer.training)
    return nn.Sequential(nn.ChannelShuffle(n), conv, nn.ChannelShuffle(features // n))


def _dropout(layer: Any) -> nn.Module:
    if layer.training and layer.p > 0:
        raise _NoTwinError("drops whole numbers, which nothing in torch.nn does: call .eval() before")
    return layer.namesake(layer.p, layer.inplace)


_BAKED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    **dict.fromkeys((PHLinear, QuaternionRotationLinear), _linear),
    **dict.fromkeys((PHConv1d, PHConv2d, PHConv3d, QuaternionRotationConv2d), _conv),
    **dict.fromkeys((PHConvTranspose1d, PHConvTranspose2d, PHConvTranspose3d), _conv),
    ContiguousGroups: _contiguous_groups,
    **dict.fromkeys((PHRNN, PHGRU, PHLSTM), _recurrent),
    PHMultiheadAttention: _attention,
    PHTransformerEncoderLayer: _encoder,
    **dict.fromkeys((PHBatchNorm1d, PHBatchNorm2d, PHBatchNorm3d), _batch_norm),
    **dict.fromkeys(_WHITENINGS, _whitening),
    **dict.fromkeys(_DROPOUTS, _dropout),
}
