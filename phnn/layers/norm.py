"""Batch normalisation over hypercomplex channels, per component (PHBatchNorm); what whitening shares with it.

A hypercomplex channel is n real channels, one of each component: real channel = component * (C/n) + c.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from ..algebras import Algebra
from ._base import OverAlgebra


class PHNorm(OverAlgebra):
    """What torch's batch norms share: the input's form, momentum, and which statistics a call uses."""

    dims: ClassVar[tuple[int, ...]]  # numbers of dimensions that an input may have
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    num_batches_tracked: Tensor | None
    running_mean: Tensor | None

    def _setup(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track: bool,
        algebra: str | Algebra,
        n: int | None,
    ) -> None:
        self._resolve(algebra, n, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track

    def _parameter(
        self, name: str, shape: tuple[int, ...], device: Any, dtype: torch.dtype | None, wanted: bool = True
    ) -> None:
        wanted = wanted and self.affine
        parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None
        self.register_parameter(name, parameter)

    def _statistic(self, name: str, shape: tuple[int, ...], device: Any, dtype: torch.dtype | None) -> None:
        kept = torch.empty(shape, device=device, dtype=dtype) if self.track_running_stats else None
        self.register_buffer(name, kept)

    def _check_input(self, input: Tensor) -> None:
        if input.dim() not in self.dims:
            wanted = " or ".join(f"{d}D" for d in self.dims)
            raise ValueError(f"expected {wanted} input (got {input.dim()}D input)")
        if input.shape[1] != self.num_features:
            name, shape = type(self).__name__, list(input.shape)
            raise RuntimeError(f"{name}: expected input{shape} to have {self.num_features} channels")

    def _uses_batch(self) -> bool:
        """Whether a call normalises with the batch's statistics rather than the running ones."""
        return self.training or not self.track_running_stats

    def _keeps(self) -> bool:
        """Whether a call moves the running statistics."""
        return self.training and self.track_running_stats

    def _keep(self, *kept_and_new: tuple[Tensor | None, Tensor]) -> None:
        """Move running statistics towards a batch's: by the momentum, or so that all batches weigh the same."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            for kept, new in kept_and_new:
                assert kept is not None
                # a tensor, not a float: a graph cannot hold what the number of batches is
                step = 1 / self.num_batches_tracked.to(kept.dtype) if self.momentum is None else self.momentum
                kept.mul_(1 - step).add_(new.to(kept.dtype) * step)  # torch's order: no difference that overflows

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        return f"{text}, track_running_stats={self.track_running_stats}, n={self.n}"


class _PHBatchNorm(PHNorm):
    """Every component has mean 0 and variance 1 of its own; the components of a channel share one scale.

    y[k, c] = weight[c] (x[k, c] - mean[k, c]) / sqrt(var[k, c] + eps) + bias[k, c], statistics over batch and space.
    input: torch's, (batch, num_features, *size), component-major. Parameters: weight (C/n,), bias (C,). Running
    statistics are nn.BatchNorm's. Raises ValueError if n does not divide num_features.
    Source: Ioffe and Szegedy, *Batch normalization*, 2015, on every component; the shared scale keeps the ratio of a
    number's components, as in Gaudet and Maida, *Deep quaternion networks*, 2018.
    """

    running_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        algebra: str | Algebra = "ph",
        n: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self._setup(num_features, eps, momentum, affine, track_running_stats, algebra, n)
        self._parameter("weight", (num_features // self.n,), device, dtype)
        self._parameter("bias", (num_features,), device, dtype, bias)
        self._statistic("running_mean", (num_features,), device, dtype)
        self._statistic("running_var", (num_features,), device, dtype)
        self._statistic("num_batches_tracked", (), device, torch.long)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches seen: mean 0, variance 1."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, no batch seen."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        scale = None if self.weight is None else self.weight.repeat(self.n)
        affine = scale, self.bias
        if not self._keeps() or self.momentum is not None:
            kept = (self.running_mean, self.running_var)
            y = nnf.batch_norm(input, *kept, *affine, self._uses_batch(), self.momentum or 0.0, self.eps)
            if self._keeps() and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            return y
        assert self.running_mean is not None
        assert self.running_var is not None
        # with momentum 1 torch leaves the batch's own moments, in its accumulation type, in buffers made for them
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        y = nnf.batch_norm(input, mean, var, *affine, True, 1.0, self.eps)
        self._keep((self.running_mean, mean), (self.running_var, var))
        return y


class PHBatchNorm1d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm1d, (2, 3)


class PHBatchNorm2d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm2d, (4,)


class PHBatchNorm3d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm3d, (5,)
