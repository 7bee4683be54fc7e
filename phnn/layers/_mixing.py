"""Products across the components of each channel, (c, n, N) samples, in whatever memory format the samples have.

Three maps that are closed under differentiation, so that gradients of any order run on them too: ``mix`` multiplies
every channel's samples by a matrix of its own, ``cross`` sums the products of every two components, and ``centre``
subtracts the mean. Samples that lie channels last are never transposed: that would cost more than the products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# ------------------------------------------------------------------------------------------------------ samples


# Up to this many components, channels last stay where they are: the products take time that grows with n, and more of
# it beyond than a transposition there and back.
_IN_PLACE = 8


def samples_of(x: Tensor, n: int) -> Tensor:
    """x (batch, n c, *size), component-major, as (c, n, N): a view of a channels-last x for small n, or a copy."""
    features = x.shape[1]
    last = x.movedim(1, -1)
    if not last.is_contiguous():
        return x.transpose(0, 1).reshape(n, features // n, -1).transpose(0, 1)
    pixels = last.reshape(math.prod(last.shape[:-1]), features)
    if n <= _IN_PLACE:
        return pixels.unflatten(1, (n, features // n)).permute(2, 1, 0)
    return pixels.t().contiguous().unflatten(0, (n, features // n)).transpose(0, 1)


def image_of(samples: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``samples_of``, in the memory format of ``like``."""
    batch, features, *size = like.shape
    rows = samples.transpose(0, 1)
    if like.movedim(1, -1).is_contiguous():
        pixels = rows.flatten(0, 1).t() if _channels_last(samples) else rows.reshape(features, -1).t().contiguous()
        return pixels.reshape(batch, *size, features).movedim(-1, 1)
    return rows.unflatten(2, (batch, math.prod(size))).movedim(2, 0).reshape(like.shape)


def _channels_last(samples: Tensor) -> bool:
    return samples.stride(0) == 1 < samples.shape[0]


# ------------------------------------------------------------------------------------------------- differentiable


def mix(M: Tensor, x: Tensor, offset: Tensor | None = None) -> Tensor:
    """M x + offset for M (c, m, n), x (c, n, N) and offset (c, m, 1)."""
    return _Mix.apply(M, x, offset)


def cross(x: Tensor, y: Tensor) -> Tensor:
    """x y^T (c, m, n) for x (c, m, N) and y (c, n, N)."""
    return _Cross.apply(x, y)


def gram(x: Tensor) -> Tensor:
    """x x^T (c, n, n) for x (c, n, N)."""
    return _Gram.apply(x)


def centre(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (c, n, N) less its mean over N, and the mean (c, n, 1), which has no gradient."""
    return _Centre.apply(x)


Mixing = Callable[[Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor | None]]


def mixed_by_covariance(
    x: Tensor, n: int, weight: Tensor | None, bias: Tensor | None, mixing: Mixing
) -> tuple[Tensor, Tensor, Tensor]:
    """M (x - mean) + offset, where (M, offset) = mixing(cov, weight, bias) of x's covariance; the mean; cov (biased).

    Neither mean nor covariance has a gradient of its own.
    """
    samples, mean = centre(samples_of(x, n))
    cov = gram(samples) / samples.shape[-1]
    M, offset = mixing(cov, weight, bias)
    return image_of(mix(M, samples, offset), x), mean.detach(), cov.detach()


def mixed_by_covariance_in_place(
    x: Tensor, n: int, weight: Tensor | None, bias: Tensor | None, mixing: Mixing
) -> tuple[Tensor, Tensor, Tensor]:
    """``mixed_by_covariance`` for plain eager mode, in half the memory traffic."""
    return _InPlace.apply(x, weight, bias, n, mixing)


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, n: int, mixing: Mixing) -> tuple[Tensor, ...]:
        samples = samples_of(x, n)
        mean = _mean(samples)
        copied = samples.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        samples = samples.sub_(mean) if copied else samples - mean
        cov = _gram(samples) / samples.shape[-1]
        ctx.n, ctx.mixing = n, mixing
        ctx.cov = cov.detach().requires_grad_()
        with torch.enable_grad():  # small, and the backward pass of its own
            ctx.M, ctx.offset = mixing(ctx.cov, weight, bias)
        ctx.save_for_backward(x, samples, weight, bias)
        ctx.mark_non_differentiable(mean, cov)
        offset = None if ctx.offset is None else ctx.offset.detach()
        return image_of(_mix(ctx.M.detach(), samples, offset), x), mean, cov

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, samples, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient's gradient
            y = mixed_by_covariance(x, ctx.n, weight, bias, ctx.mixing)[0]
            wanted = [t for t, wants in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if wants]
            found = iter(torch.autograd.grad(y, wanted, g, create_graph=True))
            return *[next(found) if wants else None for wants in ctx.needs_input_grad[:3]], None, None
        if _channels_last(samples):
            g = g.movedim(1, -1).contiguous().movedim(-1, 1)
        slope = samples_of(g, ctx.n)
        total = _mean(slope) * slope.shape[-1]
        outputs, slopes = [ctx.M], [_cross(slope, samples)]
        if ctx.offset is not None and ctx.offset.requires_grad:
            outputs, slopes = [*outputs, ctx.offset], [*slopes, total]
        sources = [ctx.cov, *[t for t, w in zip((weight, bias), ctx.needs_input_grad[1:3], strict=True) if w]]
        by_cov, *rest = torch.autograd.grad(outputs, sources, slopes, retain_graph=True)
        found = iter(rest)
        others = [next(found) if wants else None for wants in ctx.needs_input_grad[1:3]]
        if not ctx.needs_input_grad[0]:
            return None, *others, None, None
        count, M = samples.shape[-1], ctx.M.detach().mT
        dx = _mix(M, slope, M @ total / -count)
        return image_of(_mix_into(dx, (by_cov + by_cov.mT) / count, samples), x), *others, None, None


class _Mix(torch.autograd.Function):
    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Tensor | None) -> tuple[Any, Any]:
        return _apart(_Mix.apply(*_together(info.batch_size, in_dims, given)), info.batch_size)

    @staticmethod
    def forward(M: Tensor, x: Tensor, offset: Tensor | None) -> Tensor:
        return _mix(M, x, offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        M, x = ctx.saved_tensors
        wants_M, wants_x, wants_offset = ctx.needs_input_grad
        return (
            cross(g, x) if wants_M else None,
            mix(M.mT, g) if wants_x else None,
            g.sum(-1, keepdim=True) if wants_offset else None,
        )


class _Cross(torch.autograd.Function):
    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Tensor | None) -> tuple[Any, Any]:
        return _apart(_Cross.apply(*_together(info.batch_size, in_dims, given)), info.batch_size)

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return _cross(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        wants_x, wants_y = ctx.needs_input_grad
        return mix(G, y) if wants_x else None, mix(G.mT, x) if wants_y else None


class _Gram(torch.autograd.Function):
    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Tensor | None) -> tuple[Any, Any]:
        return _apart(_Gram.apply(*_together(info.batch_size, in_dims, given)), info.batch_size)

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _gram(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return mix(G + G.mT, x)


class _Centre(torch.autograd.Function):
    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Tensor | None) -> tuple[Any, Any]:
        return _apart(_Centre.apply(*_together(info.batch_size, in_dims, given)), info.batch_size)

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = _mean(x)
        return x - mean, mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> Tensor:
        return centre(g)[0]  # a projection is its own adjoint


def _together(size: int, dims: Any, given: Any) -> list[Tensor | None]:
    """What vmap maps over becomes more channels."""
    whole = zip(given, dims, strict=True)
    spread = [t if t is None else t.expand(size, *t.shape) if d is None else t.movedim(d, 0) for t, d in whole]
    return [t if t is None else t.flatten(0, 1) for t in spread]


def _apart(found: Any, size: int) -> tuple[Any, Any]:
    if isinstance(found, tuple):
        return tuple(t.unflatten(0, (size, -1)) for t in found), (0,) * len(found)
    return found.unflatten(0, (size, -1)), 0


# ------------------------------------------------------------------------------------------------------ kernels


def _mean(x: Tensor) -> Tensor:
    # the sum of a view in another order than its memory's is many times as fast as its mean
    return x.permute(2, 1, 0).sum(0).t().unsqueeze(-1) / x.shape[-1]


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return _cross_last(x, y) if _channels_last(x) and _channels_last(y) else torch.bmm(x, y.mT)


def _gram(x: Tensor) -> Tensor:
    return _gram_last(x) if _channels_last(x) else torch.bmm(x, x.mT)


def _mix(M: Tensor, x: Tensor, offset: Tensor | None) -> Tensor:
    if _channels_last(x):
        return _mix_last(M, x, offset)
    return torch.bmm(M, x) if offset is None else torch.baddbmm(offset, M, x)


# Channels last, a pixel is a row of n blocks of c channels. A diagonal of M meets equal stretches of blocks, whose
# products are longer, and so faster, than those of single blocks.


def _diagonals(rows: int, cols: int) -> list[tuple[slice, slice]]:
    """The rows and columns of every diagonal, the main one first."""
    found = []
    for d in sorted(range(1 - rows, cols), key=abs):
        length = min(rows - max(-d, 0), cols - max(d, 0))
        found.append((slice(max(-d, 0), max(-d, 0) + length), slice(max(d, 0), max(d, 0) + length)))
    return found


def _mix_last(M: Tensor, x: Tensor, offset: Tensor | None) -> Tensor:
    M, x = M.permute(1, 2, 0), x.permute(2, 1, 0)
    diagonals = _diagonals(M.shape[0], M.shape[1])
    main = _diagonal(M, *diagonals[0])
    if offset is None:
        y = x * main
    else:
        y = torch.addcmul(offset.squeeze(-1).t().contiguous(), x, main)
    for rows, cols in diagonals[1:]:
        y[:, rows].addcmul_(x[:, cols], _diagonal(M, rows, cols))
    return y.permute(2, 1, 0)


def _mix_into(y: Tensor, M: Tensor, x: Tensor) -> Tensor:
    """y + M x in place of y."""
    if not (_channels_last(x) and _channels_last(y)):
        return y.baddbmm_(M, x)
    into, M, x = y.permute(2, 1, 0), M.permute(1, 2, 0), x.permute(2, 1, 0)
    for rows, cols in _diagonals(M.shape[0], M.shape[1]):
        into[:, rows].addcmul_(x[:, cols], _diagonal(M, rows, cols))
    return y


def _diagonal(M: Tensor, rows: slice, cols: slice) -> Tensor:
    return M[rows, cols].diagonal(0, 0, 1).t().contiguous()


def _cross_last(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.permute(2, 1, 0), y.permute(2, 1, 0)
    m, n = x.shape[1], y.shape[1]
    parts = {}
    for rows, cols in _diagonals(m, n):
        sums = (x[:, rows] * y[:, cols]).sum(0)
        for k in range(sums.shape[0]):
            parts[rows.start + k, cols.start + k] = sums[k]
    return torch.stack([parts[i, j] for i in range(m) for j in range(n)], 1).unflatten(1, (m, n))


def _gram_last(x: Tensor) -> Tensor:
    x = x.permute(2, 1, 0)
    n = x.shape[1]
    parts = {}
    for d in range(n):
        sums = (x[:, d:] * x[:, : n - d]).sum(0)
        for k in range(n - d):
            parts[k + d, k] = parts[k, k + d] = sums[k]
    return torch.stack([parts[i, j] for i in range(n) for j in range(n)], 1).unflatten(1, (n, n))
