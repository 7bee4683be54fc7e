"""Weights in the CPU library's own layout: packed once, where torch.nn's layers pack theirs at every call.

oneDNN multiplies in blocked layouts. A convolution called with an ordinary weight reorders it first, and at batch 1
that is most of its time. What is packed here is read by the same kernels, so that the result is the same to the bit.
Inference only: the packed operator has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16)
_OPERATORS = ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")


class Packed(Protocol):
    """An operator with its weights packed. The bias, which nothing packs, is that of the call."""

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor: ...


def why_not_packed(weight: Tensor, padding: str | Sequence[int] = ()) -> str | None:
    """The reason why a linear or a convolution with this weight and padding cannot be packed, or None."""
    if weight.device.type != "cpu":
        return f"packed weights are for CPUs, not {weight.device.type}"
    if weight.dim() not in (2, 4, 5) or weight.dtype not in _DTYPES:
        return f"no packed kernel for {weight.dim() - 2} dimensions and {weight.dtype}"
    if isinstance(padding, str):
        return f"padding={padding!r} is not a number"
    known = hasattr(torch.ops, "mkldnn") and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled and known):
        return "this build of torch has no oneDNN"
    if weight.dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor does not multiply bfloat16"
    return None


def packed_conv(
    weight: Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    padding: str | Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Packed:
    """The convolution with ``weight`` (out, in / groups, *kernel), packed for inputs of ``shape``.

    Other sizes are computed right, perhaps less fast. Output in channels_last, whatever the input.
    """
    geometry = ([int(p) for p in padding], list(stride), list(dilation), groups)
    with torch.no_grad():
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *geometry, list(shape))
    convolution = torch.ops.mkldnn._convolution_pointwise

    def call(x: Tensor, bias: Tensor | None) -> Tensor:
        return convolution(x, packed, bias, *geometry, "none", [], "")

    return call


def packed_linear(weight: Tensor, rows: int) -> Packed:
    """x W^T + bias with ``weight`` (out, in), packed for inputs of so many rows; others are computed right.

    torch multiplies matrices in float32 by another library than the one that it convolves with; this is the latter.
    """
    with torch.no_grad():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
    linear = torch.ops.mkldnn._linear_pointwise

    def call(x: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, packed, bias, "none", [], "")

    return call
