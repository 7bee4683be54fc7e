"""Mixing of components: out_r = sum_j m[r, j] x_j, before and after the block products of a path.

Two ways, the same values: ``TORCH``, as batched matrix products, which any device runs, which compiles and exports;
and ``phnn.kernels.KERNEL``, compiled for CPUs, which reads and writes memory once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._modes import transformed

_NARROW, _MANY = 32, 512  # channels of a component, and pixels, from which on pairs of pixels are mixed together

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Mixing:
    """mixed(m, x) -> y; into(m, x, y) writes to y, without gradients. m: (R, n); x: (batch, n w, *size)."""

    mixed: Callable[[Tensor, Tensor], Tensor]
    into: Callable[[Tensor, Tensor, Tensor], None]


def mixed(m: Tensor, x: Tensor) -> Tensor:
    """Components mixed: out_r = sum_j m[r, j] x_j. m: (R, n); x: (batch, n w, *size); (batch, R w, *size).

    One small matrix product for each image, or for each pixel of a channels_last x, whose format is kept.
    """
    batch, size, channels = x.shape[0], x.shape[2:], x.shape[1] // m.shape[1] * m.shape[0]
    if by_pixel(x):
        return _products(m, x).reshape(batch, *size, channels).movedim(-1, 1)
    return _products(m, x).reshape(batch, channels, *size)


def mixed_into(m: Tensor, x: Tensor, y: Tensor) -> None:
    """``mixed``, written to y. Without gradients."""
    if by_pixel(x) != by_pixel(y):  # one pixel or one channel: both formats at once, and no telling which
        y.copy_(mixed(m, x))
        return
    target = _components(y, m.shape[0])
    v, m = _paired(_components(x, m.shape[1]), m)
    torch.bmm(m.expand(v.shape[0], *m.shape), v, out=target.reshape(v.shape[0], m.shape[0], -1))


def _products(m: Tensor, x: Tensor) -> Tensor:
    v, m = _paired(_components(x, m.shape[1]), m)
    # bmm, not matmul: matmul folds the batch into a transposed copy once gradients are wanted
    return torch.bmm(m.expand(v.shape[0], *m.shape), v)


def _paired(v: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """v and m for half as many products of twice the size, where single ones are too small for their overhead."""
    count, n, width = v.shape
    if width > _NARROW or count < _MANY or count % 2 or m.requires_grad or v.device.type != "cpu":
        return v, m
    if torch.compiler.is_compiling():
        return v, m
    return v.reshape(count // 2, 2 * n, width), torch.block_diag(m, m)


def _components(x: Tensor, n: int) -> Tensor:
    """(images, n, w pixels), or of a channels_last x (images pixels, n, w): components in the middle, x in place."""
    if by_pixel(x):
        return x.movedim(1, -1).reshape(-1, n, x.shape[1] // n)
    return x.reshape(x.shape[0], n, x.shape[1] // n * math.prod(x.shape[2:]))


def by_pixel(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side, and only they."""
    if x.dim() not in _LAST or x.is_contiguous() or transformed():
        return False
    return x.is_contiguous(memory_format=_LAST[x.dim()])


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The format that a mixed x has."""
    return _LAST[x.dim()] if by_pixel(x) else torch.contiguous_format


TORCH = Mixing(mixed, mixed_into)
