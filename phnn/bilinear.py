"""The bilinear path: mix n components into R, multiply R blocks, mix R products into n components.

If A_i[k, j] = sum_r a[r, i] b[r, j] c[r, k] then y_k = sum_r c[r, k] G_r (sum_j b[r, j] x_j) with the transformed
filters G_r = sum_i a[r, i] F_i, so R block products take the place of n^2 (``phnn.rank`` finds the factors).
Pure functions of tensors; nothing here caches, chooses or searches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_NARROW, _MANY = 32, 512  # channels of a component, and pixels, from which on pairs of pixels are mixed together

# (x, weight, groups) -> y: any operator that is linear in both and acts on channel groups (a convolution)
GroupedOperator = Callable[[Tensor, Tensor, int], Tensor]


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """A context without autocast, for what must not be rounded on the way."""
    # the meta device computes nothing and knows no autocast
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)


def transformed_filters(a: Tensor, F: Tensor) -> Tensor:
    """G_r = sum_i a[r, i] F_i, of shape (R, *F.shape[1:]). a: (R, n); F: (n, out/n, in/(n groups), *kernel)."""
    # autocast would round the factors before they are multiplied; the real layer rounds its weight but once
    with full_precision(F.device.type):
        return (a @ F.flatten(1)).unflatten(1, F.shape[1:])


def rule_of_factors(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """A of shape (n, n, n) with A[i, k, j] = sum_r a[r, i] b[r, j] c[r, k]; a, b, c: (R, n)."""
    n = a.shape[1]
    outer = (c.unsqueeze(2) * b.unsqueeze(1)).flatten(1)  # (R, n n)
    return (a.t() @ outer).view(n, n, n)


def biased(y: Tensor, bias: Tensor | None, dims: int) -> Tensor:
    """y plus a bias for its channels, after which come ``dims`` dimensions; in y's dtype, as autocast chose it."""
    return y if bias is None else y + bias.to(y.dtype).reshape(-1, *(1,) * dims)


def mixed(m: Tensor, x: Tensor) -> Tensor:
    """Components mixed: out_r = sum_j m[r, j] x_j. m: (R, n); x: (batch, n w, *size); (batch, R w, *size).

    One small matrix product for each image, or for each pixel of a channels_last x, whose format is kept.
    """
    if _by_pixel(x):
        return _products(m, x).reshape(x.shape[0], *x.shape[2:], -1).movedim(-1, 1)
    return _products(m, x).reshape(x.shape[0], -1, *x.shape[2:])


def _mixed_into(y: Tensor, m: Tensor, x: Tensor) -> None:
    """``mixed``, written to y, which has x's memory format. Without gradients."""
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
    if _by_pixel(x):
        return x.movedim(1, -1).reshape(-1, n, x.shape[1] // n)
    return x.reshape(x.shape[0], n, -1)


def _by_pixel(x: Tensor) -> bool:
    return x.dim() > 3 and not x.is_contiguous() and _channels_last(x)


def _channels_last(x: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])


def bilinear_linear(x: Tensor, G: Tensor, b: Tensor, c: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + bias. x: (..., in); G: (R, out/n, in/n); b, c: (R, n); y: (..., out)."""
    rank, n = b.shape
    v = x.reshape(-1, n, x.shape[-1] // n)
    rows = v.shape[0]
    X = torch.bmm(b.expand(rows, rank, n), v).transpose(0, 1)  # (R, rows, in/n), read in place by the product
    Y = torch.bmm(X, G.transpose(1, 2)).transpose(0, 1)
    y = torch.bmm(c.t().expand(rows, n, rank), Y).reshape(*x.shape[:-1], -1)
    return biased(y, bias, 0)


def bilinear_conv(
    x: Tensor, filters: Tensor, b: Tensor, c: Tensor, bias: Tensor | None, groups: int, operator: GroupedOperator
) -> Tensor:
    """W applied by ``operator`` as R groups. x: (batch, in, *size); filters: G as (R rows, columns, *kernel).

    b, c: (R, n). A group of the layer takes its share of every component, and so of every product: component-major
    channels (r, group, index) are already what an operator of R * groups groups wants.
    """
    y = mixed(c.t(), operator(mixed(b, x), filters, b.shape[0] * groups))
    return biased(y, bias, y.dim() - 2)


def bilinear_conv_in_chunks(
    x: Tensor,
    filters: Tensor,
    b: Tensor,
    c: Tensor,
    bias: Tensor | None,
    groups: int,
    operator: GroupedOperator,
    chunk: int,
) -> Tensor:
    """``bilinear_conv``, ``chunk`` images at a time, into one result. For inference.

    Mixed inputs and products are R/n times as large as what the real layer reads and writes. Whole, they travel
    through memory, and the allocator gives their pages back at each call; in chunks they stay in the cache.
    """
    if not 0 < chunk < x.shape[0]:
        return bilinear_conv(x, filters, b, c, bias, groups, operator)
    y: Tensor | None = None
    for part, start in zip(x.split(chunk), range(0, x.shape[0], chunk), strict=True):
        products = operator(mixed(b, part), filters, b.shape[0] * groups)
        if y is None:
            y = _room(products, x.shape[0], products.shape[1] // b.shape[0] * b.shape[1])
        target = y[start : start + chunk]
        if _by_pixel(products) == _by_pixel(target):
            _mixed_into(target, c.t(), products)
        else:  # one pixel or one channel: both formats at once, and no telling which
            target.copy_(mixed(c.t(), products))
    assert y is not None
    return y if bias is None else y.add_(bias.to(y.dtype).reshape(-1, *(1,) * (y.dim() - 2)))


def _room(like: Tensor, batch: int, channels: int) -> Tensor:
    """An empty tensor for all images, in the memory format of ``like``."""
    size = like.shape[2:]
    if _by_pixel(like):
        return like.new_empty((batch, *size, channels)).movedim(-1, 1)
    return like.new_empty((batch, channels, *size))
