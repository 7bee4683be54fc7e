"""Quaternion rotation layers: every input quaternion is rotated, scaled and summed. Apart from the paths.

y_p = sum_q s_pq u_pq x_q u_pq^-1 with u = F / |F|. No structure constants describe it: it is quadratic in F.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..algebras import algebra as find_algebra
from ..functional import conv_with_weight, full_precision
from ._base import OverAlgebra, on_filters
from .conv import border

_META: dict[str, Any] = {"device": "meta"}


def rotation_matrix(F: Tensor) -> Tensor:
    """The matrices (4, 4, ...) of x → u x u^-1 with u = F / |F|, for quaternions F (4, ...).

    The real part stays, the imaginary part turns by twice the angle of u about its axis.
    """
    a, b, c, d = nnf.normalize(F, dim=0).unbind()
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    rows = (
        (one, zero, zero, zero),
        (zero, a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (zero, 2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)),
        (zero, 2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d),
    )
    return torch.stack([torch.stack(row) for row in rows])


class QuaternionRotation(OverAlgebra):
    """Shared by the rotation layers: F (4, out/4, in/4, *kernel), scale (out/4, in/4, *kernel) and bias (out,)."""

    F: nn.Parameter
    scale: nn.Parameter
    bias: nn.Parameter | None
    groups: int = 1

    def _setup(
        self,
        template: nn.Module,
        algebra: str | Algebra,
        n: int | None,
        device: Any,
        dtype: torch.dtype | None,
        **widths: int,
    ) -> None:
        self._resolve(algebra, n, None, **widths)
        if self.algebra != find_algebra("quaternion"):
            raise ValueError(f"{type(self).__name__} rotates quaternions, not algebra {self.algebra.name!r}")
        rows, cols, *kernel = template.weight.shape  # type: ignore[misc]
        blocks = (rows // 4, cols // 4, *kernel)
        self.F = nn.Parameter(torch.empty(4, *blocks, device=device, dtype=dtype))
        self.scale = nn.Parameter(torch.empty(blocks, device=device, dtype=dtype))
        bias = template.bias
        self.bias = None if bias is None else nn.Parameter(torch.empty(bias.shape, device=device, dtype=dtype))  # type: ignore[arg-type]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Axes and angles uniform over all rotations; the weight has the variance of torch's default."""
        _, cols, *kernel = self.scale.shape
        fan_in = 4 * cols * math.prod(kernel)
        nn.init.normal_(self.F)
        # every row of a rotation has norm 1, spread over 4 blocks: Var(W) = Var(scale) / 4
        bound = 2 / math.sqrt(fan_in)
        nn.init.uniform_(self.scale, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        return super()._apply(on_filters(fn), recurse)

    @property
    def weight(self) -> Tensor:
        """W, of shape (out, in / groups, *kernel): block (k, j) is scale times entry (k, j) of the rotations."""
        with full_precision(self.F.device.type):
            blocks = rotation_matrix(self.F) * self.scale
            rows, cols, *kernel = self.scale.shape
            blocks = blocks.unflatten(2, (self.groups, rows // self.groups))  # k, j, group, p, q, kernel
            blocks = blocks.permute(2, 0, 3, 1, *range(4, blocks.dim()))
            return blocks.reshape(4 * rows, 4 * cols, *kernel)


class QuaternionRotationLinear(QuaternionRotation):
    """y_p = sum_q scale_pq u_pq x_q u_pq^-1 + bias_p with u = F / |F|: a linear layer of quaternion rotations.

    x: (..., in_features), component-major; y: (..., out_features). Parameters: F (4, out/4, in/4), scale (out/4,
    in/4), bias (out,). Raises ValueError if 4 does not divide both widths, and for another algebra.
    Source: Gaudet and Maida, *Deep quaternion networks*, 2018; Parcollet, Morchid and Linarès, *A survey of
    quaternion neural networks*, 2020.
    """

    namesake = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "quaternion",
        n: int | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        template = nn.Linear(in_features, out_features, bias, device="meta")
        self._setup(template, algebra, n, device, dtype, in_features=in_features, out_features=out_features)

    def forward(self, input: Tensor) -> Tensor:
        return nnf.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class QuaternionRotationConv2d(QuaternionRotation):
    """A 2d convolution of quaternion rotations: each tap of the kernel rotates, scales and sums.

    input: (batch, in_channels, height, width) or without batch, component-major; output as nn.Conv2d's. Parameters:
    F (4, out/4, in/(4 groups), *kernel), scale (out/4, in/(4 groups), *kernel), bias (out,). Groups are those of
    ``PHConv2d``. Raises ValueError if 4 does not divide the channels of a group, and for another algebra.
    Source: that of ``QuaternionRotationLinear``.
    """

    namesake = nn.Conv2d

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
        algebra: str | Algebra = "quaternion",
        n: int | None = None,
    ) -> None:
        super().__init__()
        geometry: tuple[Any, ...] = (kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        template = nn.Conv2d(in_channels, out_channels, *geometry, **_META)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = template.kernel_size, template.stride, template.dilation
        self.padding, self.padding_mode = template.padding, template.padding_mode
        self._border = border(padding_mode, self.padding, self.dilation, self.kernel_size)
        widths = {"in_channels": in_channels // groups, "out_channels": out_channels // groups}
        self._setup(template, algebra, n, device, dtype, **widths)

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self._border:
            input, padding = nnf.pad(input, self._border, mode=self.padding_mode), 0
        geometry = (self.stride, padding, self.dilation, self.groups)
        return conv_with_weight(input, self.weight, self.bias, 4, *geometry)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}"
        return f"{text}, padding_mode={self.padding_mode!r}, bias={self.bias is not None}"
