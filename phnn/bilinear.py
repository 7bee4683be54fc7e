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

from .mixing import TORCH, Mixing, by_pixel

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


def bilinear_linear(x: Tensor, G: Tensor, b: Tensor, c: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + bias. x: (..., in); G: (R, out/n, in/n); b, c: (R, n); y: (..., out)."""
    rank, n = b.shape
    v = x.reshape(-1, n, x.shape[-1] // n)
    rows = v.shape[0]
    X = torch.bmm(b.expand(rows, rank, n), v).transpose(0, 1)  # (R, rows, in/n), read in place by the product
    Y = torch.bmm(X, G.transpose(1, 2)).transpose(0, 1)
    y = torch.bmm(c.t().expand(rows, n, rank), Y).reshape(*x.shape[:-1], n * G.shape[1])
    return biased(y, bias, 0)


def bilinear_rows(
    x: Tensor,
    products: Callable[[Tensor], Tensor],
    b: Tensor,
    c: Tensor,
    bias: Tensor | None,
    chunk: int,
    mixing: Mixing = TORCH,
) -> Tensor:
    """y = x W^T + bias with the R products as one 1x1 convolution, ``chunk`` rows (0: all) at a time. For inference.

    x is not empty.

    products: (1, R in/n, rows, 1) -> (1, R out/n, rows, 1), channels last. x: (..., in); b, c: (R, n); y: (..., out).
    """
    rank, n = b.shape
    flat = x.reshape(-1, x.shape[-1])
    y: Tensor | None = None
    step = chunk or flat.shape[0]
    for start in range(0, flat.shape[0], step):
        X = mixing.mixed(b, flat[start : start + step])
        Y = products(X.t()[None, :, :, None])[0, :, :, 0].t()  # rows lie like the pixels of one channels_last image
        if y is None:
            y = x.new_empty((flat.shape[0], Y.shape[1] // rank * n))
        mixing.into(c.t(), Y, y[start : start + X.shape[0]])
    assert y is not None
    y = y if bias is None else y.add_(bias)
    return y.view(*x.shape[:-1], -1)


def bilinear_conv(
    x: Tensor,
    filters: Tensor,
    b: Tensor,
    c: Tensor,
    bias: Tensor | None,
    groups: int,
    operator: GroupedOperator,
    mixing: Mixing = TORCH,
) -> Tensor:
    """W applied by ``operator`` as R groups. x: (batch, in, *size); filters: G as (R rows, columns, *kernel).

    b, c: (R, n). A group of the layer takes its share of every component, and so of every product: component-major
    channels (r, group, index) are already what an operator of R * groups groups wants.
    """
    y = mixing.mixed(c.t(), operator(mixing.mixed(b, x), filters, b.shape[0] * groups))
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
    mixing: Mixing = TORCH,
) -> Tensor:
    """``bilinear_conv``, ``chunk`` images at a time, into one result. For inference.

    Mixed inputs and products are R/n times as large as what the real layer reads and writes. Whole, they travel
    through memory, and the allocator gives their pages back at each call; in chunks they stay in the cache.
    """
    if not 0 < chunk < x.shape[0]:
        return bilinear_conv(x, filters, b, c, bias, groups, operator, mixing)
    y: Tensor | None = None
    for part, start in zip(x.split(chunk), range(0, x.shape[0], chunk), strict=True):
        products = operator(mixing.mixed(b, part), filters, b.shape[0] * groups)
        if y is None:
            y = _room(products, x.shape[0], products.shape[1] // b.shape[0] * b.shape[1])
        mixing.into(c.t(), products, y[start : start + chunk])
    assert y is not None
    return y if bias is None else y.add_(bias.to(y.dtype).reshape(-1, *(1,) * (y.dim() - 2)))


def _room(like: Tensor, batch: int, channels: int) -> Tensor:
    """An empty tensor for all images, in the memory format of ``like``."""
    size = like.shape[2:]
    if by_pixel(like):
        return like.new_empty((batch, *size, channels)).movedim(-1, 1)
    return like.new_empty((batch, channels, *size))
