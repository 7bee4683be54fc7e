"""PHConv1d, PHConv2d, PHConv3d: torch.nn's convolutions over any algebra."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..functional import BUILDS_W, conv_operator, conv_with_weight
from ._base import PHLayer


class _PHConv(PHLayer):
    """Convolution with W = sum_i A_i (x) F_i.

    input: (batch, in_channels, *size) or without batch, component-major; output as torch.nn's. Parameters: F
    (n, out/n, in/(n groups), *kernel), bias (out,), and A (n, n, n) if the rule is learned. A group is a
    hypercomplex convolution of its own: it takes its share of the channels of every component. ``weight`` acts on
    group-major channels. Raises ValueError if n does not divide the channels of a group.
    Source: Grassucci, Zhang and Comminiello, *PHNNs: lightweight neural networks via parameterized hypercomplex
    convolutions*, 2022.
    """

    tunable = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
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
        # torch checks and completes the arguments; nothing of this layer is kept but their final form
        geometry = (kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        template = self.namesake(in_channels, out_channels, *geometry, device="meta")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = (
            template.kernel_size,
            template.stride,
            template.dilation,
        )
        self.padding: str | tuple[int, ...] = template.padding
        self.padding_mode: str = template.padding_mode
        self._border = border(padding_mode, self.padding, self.dilation, self.kernel_size)
        per_group = " per group" if groups > 1 else ""
        widths = {
            f"in_channels{per_group}": in_channels // groups,
            f"out_channels{per_group}": out_channels // groups,
        }
        self._setup(template, algebra, n, path, rule, rule_init, rank, device, dtype, **widths)

    def forward(self, input: Tensor) -> Tensor:
        plan, padding = self._plan(input), self.padding
        if self._border:
            input, padding = nnf.pad(input, self._border, mode=self.padding_mode), (0,) * len(self.kernel_size)
        geometry = (self.stride, padding, self.dilation)
        if not plan.plain:
            input = self._formatted(input, plan)
            if plan.packed and (y := self._packed_conv(input, plan, geometry)) is not None:
                return y
        if plan.path not in BUILDS_W:
            operator = conv_operator(len(self.kernel_size), *geometry)
            if (y := self._conv(input, plan, operator, geometry)) is not None:
                return y
        return conv_with_weight(input, self._weight(plan, input), self.bias, self.n, *geometry, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in (0, (0,) * len(self.kernel_size)):
            text += f", padding={self.padding!r}"
        if any(d != 1 for d in self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode!r}"
        return f"{text}, bias={self.bias is not None}, {self._algebra_repr()}"


def border(
    mode: str, padding: str | tuple[int, ...], dilation: tuple[int, ...], kernel: tuple[int, ...]
) -> list[int]:
    """What nn.functional.pad takes, (before, after) of each dimension, last first; empty where nothing is padded."""
    if mode == "zeros" or padding == "valid":  # the convolution itself pads with zeros
        return []
    sides: list[int] = []
    for axis in reversed(range(len(kernel))):
        if isinstance(padding, str):  # "same"
            total = dilation[axis] * (kernel[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [padding[axis]] * 2
    return sides


class PHConv1d(_PHConv):
    __doc__ = _PHConv.__doc__
    namesake = nn.Conv1d


class PHConv2d(_PHConv):
    __doc__ = _PHConv.__doc__
    namesake = nn.Conv2d


class PHConv3d(_PHConv):
    __doc__ = _PHConv.__doc__
    namesake = nn.Conv3d
