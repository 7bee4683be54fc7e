"""Whitening over hypercomplex channels: the n components of a channel lose their mean and their correlation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._steps import kept_from
from ..algebras import Algebra, near_matches
from ..functional import full_precision
from ._base import unkeepable
from ._mixing import image_of, mix, mixed_by_covariance, mixed_by_covariance_in_place, samples_of
from ._roots import inverse_factor, inverse_root
from .norm import PHNorm

METHODS = {"cholesky": inverse_factor, "zca": inverse_root}

# A covariance is indefinite by a few rounding errors of its trace: this many, added, keep its factors apart from 0.
_JITTER = 4


class _PHWhitening(PHNorm):
    """The components of a channel have mean 0, variance 1 and no correlation: x is whitened, then mixed and shifted.

    y[:, c] = weight[c] K (x[:, c] - mean[:, c]) + bias[:, c] with K V K^T = 1, where V = cov[c] + eps 1 is the n×n
    covariance of channel c over batch and space. method: ``cholesky``, K = L^-1 with V = L L^T; ``zca``, K = V^-1/2,
    the whitening that changes x least. Where cov[c] may be singular but for rounding, its trace times a few roundoffs
    is added to eps. input: torch's, (batch, num_features, *size), component-major; output: in its memory format.
    Parameters: weight (C/n, n, n), at first the identity, and bias (C,). Buffers: running_mean (C,), running_cov
    (C/n, n, n, unbiased). Statistics of half precision inputs are taken in float32. Raises ValueError if n does not
    divide num_features, and in training for a single value per channel. An empty batch moves no statistics.
    Source: Gaudet and Maida, *Deep quaternion networks*, 2018; Kessy, Lewin and Strimmer, *Optimal whitening and
    decorrelation*, 2018.
    """

    running_cov: Tensor | None

    def __new__(cls, *args: Any, method: str = "cholesky", **kwargs: Any) -> Any:
        return super().__new__(cls, *args, **kwargs)  # torch's batch norm asks for no method

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
            raise ValueError(f"unknown method {method!r}{near_matches(method, list(METHODS))}")
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
        count = x.numel() // self.num_features
        if self._uses_batch() and count:
            return self._by_batch(x, count)
        if self._uses_batch():  # of an empty batch
            cov = x.new_zeros(self.num_features // self.n, self.n, self.n)
            M, offset = self._mixing(cov, self.weight, self.bias)
        else:
            M, offset = self._kept_mixing(x.dtype)
        return image_of(mix(M, samples_of(x, self.n), offset), x)

    def _by_batch(self, x: Tensor, count: int) -> Tensor:
        """x whitened by its own covariance; then the running statistics move."""
        if self.training and count == 1:
            raise ValueError("expected more than 1 value per channel when training, got 1")
        traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        whitened = mixed_by_covariance if traced else mixed_by_covariance_in_place
        y, mean, cov = whitened(x, self.n, self.weight, self.bias, self._mixing)
        if self._keeps():
            self._keep(
                (self.running_mean, mean.squeeze(-1).t().reshape(-1)),
                (self.running_cov, cov * (count / (count - 1))),
            )
        return y

    def _mixing(self, cov: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """weight K (c, n, n) for a covariance, and the bias (c, n, 1)."""
        trace = cov.diagonal(0, -2, -1).sum(-1)[:, None, None]
        rounding = _JITTER * torch.finfo(cov.dtype).eps
        eye = torch.eye(self.n, dtype=cov.dtype, device=cov.device)
        K = METHODS[self.method](cov + (self.eps + rounding * trace) * eye)
        K = K if weight is None else weight.to(cov.dtype) @ K
        return K, None if bias is None else self._by_channel(bias, cov.dtype)

    def _by_channel(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """(C,) as (c, n, 1)."""
        return features.to(dtype).reshape(self.n, -1).t().unsqueeze(-1)

    def _running_mixing(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """``_mixing`` by the running statistics, their mean subtracted from the bias."""
        assert self.running_mean is not None
        assert self.running_cov is not None
        M, offset = self._mixing(self.running_cov.to(dtype), self.weight, self.bias)
        shift = M @ self._by_channel(self.running_mean, dtype)
        return M, -shift if offset is None else offset - shift

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
            kept_from(sources)
            self._cache = (sources, key, mixing)
        return mixing

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self._cache = None  # .to() changes the data of parameters without bumping their version
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}


class PHWhitening1d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm1d, (2, 3)


class PHWhitening2d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm2d, (4,)


class PHWhitening3d(_PHWhitening):
    __doc__ = _PHWhitening.__doc__
    namesake, dims = nn.BatchNorm3d, (5,)
