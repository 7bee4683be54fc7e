"""PHConvTranspose1d, PHConvTranspose2d, PHConvTranspose3d: torch.nn's transposed convolutions over any algebra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..algebras import Algebra
from ..functional import BUILDS_W, conv_transpose_operator, conv_transpose_with_weight
from ._base import PHLayer


class _PHConvTranspose(PHLayer):
    """Transposed convolution with W = sum_i A_i (x) F_i: y = w*x, each product a transposed convolution.

    input: (batch, in_channels, *size) or without batch, component-major; output as torch.nn's. Parameters: F
    (n, in/n, out/(n groups), *kernel), bias (out,), and A (n, n, n) if the rule is learned; ``weight`` is (in,
    out/groups, *kernel). It is the adjoint of the convolution with rule A_i^T and filters F_i^T, for quaternions
    the convolution with the conjugate weight. Groups are those of ``PHConv2d``. Raises ValueError if n does not
    divide the channels of a group, and for an ``output_size`` that no output_padding reaches.
    Source: Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*, 2016, for the geometry.
    """

    transposed = True
    tunable = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        path: str = "auto",
        rule: nn.Parameter | None = None,
        rule_init: str | Algebra | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        geometry = (kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode)
        template = self.namesake(in_channels, out_channels, *geometry, device="meta")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = template.kernel_size, template.stride, template.dilation
        self.padding, self.output_padding = template.padding, template.output_padding
        self.padding_mode: str = template.padding_mode
        per_group = " per group" if groups > 1 else ""
        widths = {
            f"in_channels{per_group}": in_channels // groups,
            f"out_channels{per_group}": out_channels // groups,
        }
        self._setup(template, algebra, n, path, rule, rule_init, rank, device, dtype, **widths)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._padding_for(input, output_size)
        plan = self._plan(input)
        input = self._formatted(input, plan)
        geometry = (self.stride, self.padding, extra, self.dilation)
        if plan.path not in BUILDS_W:
            operator = conv_transpose_operator(len(self.kernel_size), *geometry)
            if (y := self._conv(input, plan, operator, None)) is not None:
                return y
        return conv_transpose_with_weight(input, self._weight(plan, input), self.bias, self.n, *geometry, self.groups)

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output_padding that makes the output's spatial size ``output_size``, or its last dimensions."""
        dims = len(self.kernel_size)
        wanted = tuple(output_size)
        if len(wanted) == input.dim():
            wanted = wanted[-dims:]
        if len(wanted) != dims:
            raise ValueError(f"output_size has {len(output_size)} elements, {dims} or {input.dim()} are needed")
        smallest = [
            (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for size, stride, padding, dilation, kernel in zip(
                input.shape[-dims:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        largest = [low + stride - 1 for low, stride in zip(smallest, self.stride, strict=True)]
        if any(not low <= size <= high for low, size, high in zip(smallest, wanted, largest, strict=True)):
            raise ValueError(f"output_size {wanted} is not between {smallest} and {largest}")
        return tuple(size - low for size, low in zip(wanted, smallest, strict=True))

    def extra_repr(self) -> str:
        zeros = (0,) * len(self.kernel_size)
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != zeros:
            text += f", padding={self.padding}"
        if self.output_padding != zeros:
            text += f", output_padding={self.output_padding}"
        if any(d != 1 for d in self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return f"{text}, bias={self.bias is not None}, {self._algebra_repr()}"


class PHConvTranspose1d(_PHConvTranspose):
    __doc__ = _PHConvTranspose.__doc__
    namesake = nn.ConvTranspose1d


class PHConvTranspose2d(_PHConvTranspose):
    __doc__ = _PHConvTranspose.__doc__
    namesake = nn.ConvTranspose2d


class PHConvTranspose3d(_PHConvTranspose):
    __doc__ = _PHConvTranspose.__doc__
    namesake = nn.ConvTranspose3d
