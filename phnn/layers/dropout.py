"""Dropout that keeps or drops a hypercomplex number whole: its n components share one draw."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ..widths import misfit
from ._base import OverAlgebra


class _PHDropout(OverAlgebra):
    """Shared by the dropouts: p, and the draw that the components share."""

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, algebra: str | Algebra = "ph", n: int | None = None
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability is between 0 and 1, not {p}")
        self._resolve(algebra, n)
        self.p, self.inplace = p, inplace

    def _dropped(self, input: Tensor, dim: int, mask_shape: tuple[int, ...]) -> Tensor:
        """The input times a mask of ``mask_shape``, drawn over input with dimension dim split in (n, C/n)."""
        if not self.training or self.p == 0:
            return input
        mask = nnf.dropout(torch.ones(mask_shape, dtype=input.dtype, device=input.device), self.p)
        parts = input.unflatten(dim, (self.n, -1))
        if self.inplace:
            parts.mul_(mask)
            return input
        return (parts * mask).reshape(input.shape)

    def _check_width(self, input: Tensor, dim: int) -> None:
        if reason := misfit(self.n, channels=input.shape[dim]):
            raise ValueError(f"{type(self).__name__}: {reason}")

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}, n={self.n}"


class PHDropout(_PHDropout):
    """Zeroes each hypercomplex number with probability p in training, and scales the others by 1 / (1 - p).

    input: any shape with component-major channels in dimension ``dim`` (-1: features last; 1: images); output:
    the same. Raises ValueError if n does not divide the channels.
    Source: Srivastava et al., *Dropout*, 2014, with one draw for the components of a number.
    """

    namesake = nn.Dropout

    def __new__(cls, *args: Any, dim: int = -1, **kwargs: Any) -> Any:
        return super().__new__(cls, *args, **kwargs)  # nn.Dropout asks for no dim: it treats all alike

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        dim: int = -1,
    ) -> None:
        super().__init__(p, inplace, algebra=algebra, n=n)
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        dim = self.dim % input.dim()
        self._check_width(input, dim)
        shape = input.shape
        return self._dropped(input, dim, (*shape[:dim], 1, shape[dim] // self.n, *shape[dim + 1 :]))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dim={self.dim}"


class _PHDropoutNd(_PHDropout):
    """Zeroes each hypercomplex channel, a map of numbers, with probability p in training.

    input: (batch, channels, *size) or without batch, component-major; output: the same. The channels that stay are
    scaled by 1 / (1 - p). Raises ValueError if n does not divide the channels.
    Source: Tompson et al., *Efficient object localization using convolutional networks*, 2015.
    """

    size_dims: ClassVar[int]

    def forward(self, input: Tensor) -> Tensor:
        dim = input.dim() - self.size_dims - 1
        if dim not in (0, 1):
            raise ValueError(f"expected {self.size_dims + 1}D or {self.size_dims + 2}D input, not {input.dim()}D")
        self._check_width(input, dim)
        shape = input.shape
        return self._dropped(input, dim, (*shape[:dim], 1, shape[dim] // self.n, *[1] * self.size_dims))


class PHDropout1d(_PHDropoutNd):
    __doc__ = _PHDropoutNd.__doc__
    namesake, size_dims = nn.Dropout1d, 1


class PHDropout2d(_PHDropoutNd):
    __doc__ = _PHDropoutNd.__doc__
    namesake, size_dims = nn.Dropout2d, 2


class PHDropout3d(_PHDropoutNd):
    __doc__ = _PHDropoutNd.__doc__
    namesake, size_dims = nn.Dropout3d, 3
