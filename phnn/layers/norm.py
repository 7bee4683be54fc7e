"""Batch normalisation over hypercomplex channels: per component (PHBatchNorm), and whitening (PHWhitening).

A hypercomplex channel is n real channels, one of each component: real channel = component * (C/n) + c.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as nnf

from ..algebras import Algebra, near_matches
from ..functional import full_precision
from ._base import OverAlgebra, unkeepable

METHODS = ("cholesky", "zca")


class _PHNorm(OverAlgebra):
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
                kept.lerp_(new.to(kept.dtype), step)

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        return f"{text}, track_running_stats={self.track_running_stats}, n={self.n}"


class _PHBatchNorm(_PHNorm):
    """Every component has mean 0 and variance 1 of its own; the components of a channel share one scale.

    y[k, c] = weight[c] (x[k, c] - mean[k, c]) / sqrt(var[k, c] + eps) + bias[k, c], statistics over batch and space.
    input: torch's, (batch, num_features, *size), component-major. Parameters: weight (C/n,), bias (C,). Running
    statistics are nn.BatchNorm's. Raises ValueError if n does not divide num_features.
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
        if self._keeps() and self.momentum is None:
            dims = [d for d in range(input.dim()) if d != 1]
            self._keep((self.running_mean, input.mean(dims)), (self.running_var, input.var(dims)))
            return nnf.batch_norm(input, None, None, scale, self.bias, True, 0.0, self.eps)
        if self._keeps() and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        kept = (self.running_mean, self.running_var)
        return nnf.batch_norm(input, *kept, scale, self.bias, self._uses_batch(), self.momentum or 0.0, self.eps)


class _PHWhitening(_PHNorm):
    """The components of a channel have mean 0, variance 1 and no correlation: x is whitened, then mixed and shifted.

    y[:, c] = weight[c] K (x[:, c] - mean[:, c]) + bias[:, c] with K V K^T = 1, where V = cov[c] + eps 1 is the n×n
    covariance of channel c over batch and space. method: ``cholesky``, K = L^-1 with V = L L^T; ``zca``, K = V^-1/2,
    the whitening that changes x least. input: torch's, (batch, num_features, *size), component-major. Parameters:
    weight (C/n, n, n), at first the identity, and bias (C,). Buffers: running_mean (C,), running_cov (C/n, n, n,
    unbiased). Statistics of half precision inputs are taken in float32. Raises ValueError if n does not divide
    num_features, and in training for a single value per channel.
    Source: Gaudet and Maida, *Deep quaternion networks*, 2018; Kessy, Lewin and Strimmer, *Optimal whitening and
    decorrelation*, 2018.
    """

    running_cov: Tensor | None

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
        method: str = "cholesky",
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}{near_matches(method, METHODS)}")
        self.method = method
        self._cache: tuple[Any, ...] | None = None
        self._setup(num_features, eps, momentum, affine, track_running_stats, algebra, n)
        blocks = (num_features // self.n, self.n, self.n)
        self._parameter("weight", blocks, device, dtype)
        self._parameter("bias", (num_features,), device, dtype, bias)
        self._statistic("running_mean", (num_features,), device, dtype)
        self._statistic("running_cov", blocks, device, dtype)
        self._statistic("num_batches_tracked", (), device, torch.long)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches seen: mean 0, covariance 1."""
        if self.running_mean is not None and self.running_cov is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_cov.copy_(torch.eye(self.n))
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Mixing 1, shift 0, no batch seen."""
        self.reset_running_stats()
        if self.weight is not None:
            with torch.no_grad():
                self.weight.copy_(torch.eye(self.n))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        own = self.running_mean if self.weight is None else self.weight
        half = input.dtype in (torch.float16, torch.bfloat16)
        if own is not None and own.dtype != input.dtype and not (half and own.dtype is torch.float32):
            raise RuntimeError(f"expected input of dtype {own.dtype}, the layer's, not {input.dtype}")
        # autocast would round the covariance, whose factor is what makes or breaks the result
        with full_precision(input.device.type):
            return self._whitened(input.float() if half else input).to(input.dtype)

    def _whitened(self, x: Tensor) -> Tensor:
        n, channels, batch = self.n, self.num_features // self.n, x.shape[0]
        # (channel, component, sample): each covariance is one product, at the price of a copy
        samples = x.reshape(batch, n, channels, math.prod(x.shape[2:])).permute(2, 1, 0, 3)
        form = samples.shape
        samples = samples.reshape(channels, n, form[2] * form[3])
        if self._uses_batch():
            mean = samples.mean(-1, keepdim=True)
            samples = samples - mean
            K, offset = self._mixing(self._covariance(samples, mean))
        else:
            K, offset = self._kept_mixing(x.dtype)
        y = K @ samples if offset is None else torch.baddbmm(offset, K, samples)
        return y.reshape(form).permute(2, 1, 0, 3).reshape(x.shape)

    def _mixing(self, cov: Tensor) -> tuple[Tensor, Tensor | None]:
        """weight K (c, n, n) for a covariance, and the bias (c, n, 1)."""
        eye = torch.eye(self.n, dtype=cov.dtype, device=cov.device)
        K = _whitening(cov + self.eps * eye, self.method)
        K = K if self.weight is None else self.weight.to(cov.dtype) @ K
        return K, None if self.bias is None else self._by_channel(self.bias, cov.dtype)

    def _by_channel(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """(C,) as (c, n, 1)."""
        return features.to(dtype).reshape(self.n, -1).t().unsqueeze(-1)

    def _running_mixing(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``_mixing`` by the running statistics, their mean subtracted from the bias."""
        assert self.running_mean is not None
        assert self.running_cov is not None
        K, offset = self._mixing(self.running_cov.to(dtype))
        shift = K @ self._by_channel(self.running_mean, dtype)
        return K, -shift if offset is None else offset - shift

    def _kept_mixing(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``_running_mixing``, kept while nothing needs a gradient and nothing changes."""
        sources = [t for t in (self.running_mean, self.running_cov, self.weight, self.bias) if t is not None]
        if torch.compiler.is_compiling() or any(unkeepable(t) for t in sources):
            return self._running_mixing(dtype)
        key = (dtype, [t._version for t in sources])
        cache = self._cache
        if cache and cache[1] == key and all(a is b for a, b in zip(cache[0], sources, strict=True)):
            return cache[2]
        with torch.inference_mode(False), torch.no_grad():
            mixing = self._running_mixing(dtype)
        if type(mixing[0]) is Tensor:
            self._cache = (sources, key, mixing)
        return mixing

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self._cache = None  # .to() changes the data of parameters without bumping their version
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def _covariance(self, centred: Tensor, mean: Tensor) -> Tensor:
        """The batch's covariance (biased); the running statistics move towards it (unbiased)."""
        count = centred.shape[-1]
        if self.training and count <= 1:
            raise ValueError(f"expected more than 1 value per channel when training, got {count}")
        cov = centred @ centred.transpose(1, 2) / count
        if self._keeps():
            mean = mean.squeeze(-1).t().reshape(-1)
            self._keep((self.running_mean, mean), (self.running_cov, cov * (count / (count - 1))))
        return cov


def _whitening(V: Tensor, method: str) -> Tensor:
    """K (c, n, n) with K V K^T = 1, from covariances V (c, n, n)."""
    if method == "zca":
        return _InverseRoot.apply(V)[0]
    L = torch.linalg.cholesky(V)
    eye = torch.eye(V.shape[-1], dtype=V.dtype, device=V.device).expand_as(V)
    return torch.linalg.solve_triangular(L, eye, upper=False)


class _InverseRoot(torch.autograd.Function):
    """V^-1/2 of symmetric positive definite V (c, n, n), with a gradient that equal eigenvalues do not upset.

    dK = U (G * (U^T dV U)) U^T with G_ij = (f(l_i) - f(l_j)) / (l_i - l_j), which for f(l) = l^-1/2 is
    -1 / (r_i r_j (r_i + r_j)) with r = sqrt(l): no difference of eigenvalues remains.
    Source: Daleckii and Krein, 1965.
    """

    @staticmethod
    def forward(V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eigenvalues, U = torch.linalg.eigh(V)
        root = eigenvalues.sqrt()
        return (U / root.unsqueeze(-2)) @ U.mT, root, U

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, root, U = output
        ctx.mark_non_differentiable(root, U)
        ctx.save_for_backward(root, U)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Tensor:
        root, U = ctx.saved_tensors
        r, s = root.unsqueeze(-1), root.unsqueeze(-2)
        return U @ ((U.mT @ grad @ U) / -(r * s * (r + s))) @ U.mT


class PHBatchNorm1d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm1d, (2, 3)


class PHBatchNorm2d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm2d, (4,)


class PHBatchNorm3d(_PHBatchNorm):
    __doc__ = _PHBatchNorm.__doc__
    namesake, dims = nn.BatchNorm3d, (5,)


class PHWhitening1d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm1d, (2, 3)


class PHWhitening2d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm2d, (4,)


class PHWhitening3d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm3d, (5,)
