"""The paths: how the rule A, the filters F and the input x are contracted, as pure functions.

Every path computes y = W x with W = sum_i A_i (x) F_i, where (x) is the Kronecker product of channels:
W[k*o + p, j*c + q] = sum_i A[i, k, j] F[i, p, q], for A of shape (n, n, n) and F of shape (n, o, c, *kernel).
Channels are component-major: real channel = component * (channels / n) + index. With groups, W acts on
group-major channels (group, component, index), which is what ``regroup`` makes of them.

``kron`` and ``dense`` build W; ``factored`` and ``bilinear`` (modules of those names) never do, and ``bilinear``
needs the factors (a, b, c) of A, from ``phnn.rank``. Nothing here caches, chooses or searches; modules and tuning do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as nnf

from .bilinear import GroupedOperator, bilinear_conv, bilinear_linear, full_precision, transformed_filters
from .factored import factored_conv, factored_linear
from .plan import PATHS

BUILDS_W = ("kron", "dense")

Factors = tuple[Tensor, Tensor, Tensor]

_CONV = {1: nnf.conv1d, 2: nnf.conv2d, 3: nnf.conv3d}
_CONV_TRANSPOSE = {1: nnf.conv_transpose1d, 2: nnf.conv_transpose2d, 3: nnf.conv_transpose3d}


def ph_weight(A: Tensor, F: Tensor, *, groups: int = 1, path: str = "dense") -> Tensor:
    """W = sum_i A_i (x) F_i, of shape (out, in / groups, *kernel).

    A: (n, n, n) as A[i, k, j]; F: (n, out/n, in/(n groups), *kernel). ``kron`` adds n full-size
    Kronecker products, as published code does; ``dense`` is one matrix product. Raises ValueError for another path.
    """
    # autocast would round A and F before they are multiplied; the real layer rounds its weight but once
    with full_precision(F.device.type):
        if path == "dense":
            return _weight_by_product(A, F, groups)
        if path == "kron":
            return _weight_by_kron(A, F, groups)
    raise ValueError(f"path {path!r} builds no weight: choose one of {', '.join(BUILDS_W)}")


def _weight_by_product(A: Tensor, F: Tensor, groups: int) -> Tensor:
    n, out, cols, *kernel = F.shape
    blocks = A.reshape(n, n * n).t() @ F.reshape(n, -1)  # every (k, j) block of W, one row each
    blocks = blocks.reshape(n, n, groups, out // groups, cols, *kernel)  # k, j, group, p, q, kernel
    return blocks.permute(2, 0, 3, 1, *range(4, blocks.dim())).reshape(n * out, n * cols, *kernel)


def _weight_by_kron(A: Tensor, F: Tensor, groups: int) -> Tensor:
    n, out, cols, *kernel = F.shape
    # all n products stand in memory at once, (n + 1) times W: the baseline is what people run today
    products = A.reshape(n, n, 1, n, 1, *(1,) * len(kernel)) * F.unsqueeze(2).unsqueeze(1)
    W = products.reshape(n, n * out, n * cols, *kernel).sum(dim=0)
    if groups == 1:
        return W
    W = W.reshape(n, groups, out // groups, n * cols, *kernel).transpose(0, 1)
    return W.reshape(n * out, n * cols, *kernel)


def regroup(x: Tensor, n: int, groups: int, dim: int) -> Tensor:
    """Channels from component-major (component, group, index) to group-major (group, component, index)."""
    if groups == 1:
        return x
    dim %= x.dim()
    return x.unflatten(dim, (n, groups, -1)).transpose(dim, dim + 1).flatten(dim, dim + 2)


def ungroup(x: Tensor, n: int, groups: int, dim: int) -> Tensor:
    """Channels from group-major back to component-major: the inverse of ``regroup``."""
    return regroup(x, groups, n, dim)


def ph_linear(
    x: Tensor,
    A: Tensor,
    F: Tensor,
    bias: Tensor | None = None,
    *,
    path: str = "dense",
    factors: Factors | None = None,
) -> Tensor:
    """y = x W^T + bias. x: (..., in); A: (n, n, n); F: (n, out/n, in/n); bias: (out,); y: (..., out).

    factors: (a, b, c), each (R, n), that make A; needed by ``bilinear`` alone.
    """
    if path == "factored":
        return factored_linear(x, A, F, bias)
    if path == "bilinear":
        a, b, c = needed(factors)
        return bilinear_linear(x, transformed_filters(a, F), b, c, bias)
    return nnf.linear(x, ph_weight(A, F, path=path), bias)


def ph_conv(
    x: Tensor,
    A: Tensor,
    F: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    path: str = "dense",
    factors: Factors | None = None,
) -> Tensor:
    """Convolution of one, two or three dimensions with W.

    x: (batch, in, *size); A: (n, n, n); F: (n, out/n, in/(n groups), *kernel); bias: (out,). Groups split the
    channels of every component, so that each group is a hypercomplex convolution of its own.
    factors: (a, b, c), each (R, n), that make A; needed by ``bilinear`` alone.
    """
    if path in BUILDS_W:
        W = ph_weight(A, F, groups=groups, path=path)
        return conv_with_weight(x, W, bias, F.shape[0], stride, padding, dilation, groups)
    operator = conv_operator(F.dim() - 3, stride, padding, dilation)
    return conv_without_weight(x, A, F, bias, groups, operator, path=path, factors=factors)


def conv_without_weight(
    x: Tensor,
    A: Tensor,
    F: Tensor,
    bias: Tensor | None,
    groups: int,
    operator: GroupedOperator,
    *,
    path: str,
    factors: Factors | None = None,
    transposed: bool = False,
) -> Tensor:
    """``ph_conv`` or, with ``transposed``, ``ph_conv_transpose`` along a path that builds no W."""
    if path == "factored":

        def call(x: Tensor) -> Tensor:
            return factored_conv(x, A, F, bias, groups, operator, transposed=transposed)

    elif path == "bilinear":
        a, b, c = needed(factors)
        filters = transformed_filters(a, F).flatten(0, 1)

        def call(x: Tensor) -> Tensor:
            return bilinear_conv(x, filters, b, c, bias, groups, operator)

    else:
        raise ValueError(f"unknown path {path!r}: choose one of {', '.join(PATHS)}")
    return batched(F.dim() - 1, x, call)


def needed(factors: Factors | None) -> Factors:
    """The factors, or a ValueError that says where they come from."""
    if factors is None:
        raise ValueError("path 'bilinear' needs factors=(a, b, c) of the rule: phnn.rank.decompose finds them")
    return factors


def conv_operator(
    dims: int,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> GroupedOperator:
    """The convolution of ``dims`` dimensions as a function of (x, weight, groups)."""
    conv = _CONV[dims]

    def operator(x: Tensor, weight: Tensor, groups: int) -> Tensor:
        return conv(x, weight, None, stride, padding, dilation, groups)

    return operator


def conv_transpose_operator(
    dims: int,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> GroupedOperator:
    """The transposed convolution of ``dims`` dimensions as a function of (x, weight, groups)."""
    conv = _CONV_TRANSPOSE[dims]

    def operator(x: Tensor, weight: Tensor, groups: int) -> Tensor:
        return conv(x, weight, None, stride, padding, output_padding, groups, dilation)

    return operator


def batched(dims: int, x: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
    """``call`` on x of ``dims`` dimensions, the first of which, the batch, may be missing."""
    return call(x) if x.dim() == dims else call(x.unsqueeze(0)).squeeze(0)


def conv_with_weight(
    x: Tensor,
    W: Tensor,
    bias: Tensor | None,
    n: int,
    stride: int | Sequence[int],
    padding: str | int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of ``ph_conv`` with a W that is already built."""
    conv = _CONV[W.dim() - 2]
    if groups == 1:
        return conv(x, W, bias, stride, padding, dilation)
    x = _regroup_channels(x, n, groups, W, W.shape[1] * groups)
    y = conv(x, W, None, stride, padding, dilation, groups)
    return _ungroup_channels(y, n, groups, W, bias)


def ph_conv_transpose(
    x: Tensor,
    A: Tensor,
    F: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    path: str = "dense",
    factors: Factors | None = None,
) -> Tensor:
    """Transposed convolution of one, two or three dimensions: y = w*x, each product a transposed convolution.

    x: (batch, in, *size); A: (n, n, n); F: (n, in/n, out/(n groups), *kernel), in and out in torch's order for a
    transposed convolution; bias: (out,). It is the adjoint of ``ph_conv`` with rule A_i^T and filters F_i^T, which
    torch stores as the same F: the conjugate weight for quaternions. Groups and factors as in ``ph_conv``.
    """
    if path not in BUILDS_W:
        operator = conv_transpose_operator(F.dim() - 3, stride, padding, output_padding, dilation)
        return conv_without_weight(x, A, F, bias, groups, operator, path=path, factors=factors, transposed=True)
    W = ph_weight(A.transpose(1, 2), F, groups=groups, path=path)
    return conv_transpose_with_weight(x, W, bias, F.shape[0], stride, padding, output_padding, dilation, groups)


def conv_transpose_with_weight(
    x: Tensor,
    W: Tensor,
    bias: Tensor | None,
    n: int,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    output_padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> Tensor:
    """The transposed convolution of ``ph_conv_transpose`` with a W (in, out / groups, *kernel) that is built."""
    conv = _CONV_TRANSPOSE[W.dim() - 2]
    if groups == 1:
        return conv(x, W, bias, stride, padding, output_padding, 1, dilation)
    x = _regroup_channels(x, n, groups, W, W.shape[0])
    y = conv(x, W, None, stride, padding, output_padding, groups, dilation)
    return _ungroup_channels(y, n, groups, W, bias)


def _regroup_channels(x: Tensor, n: int, groups: int, W: Tensor, channels: int) -> Tensor:
    # the channel dimension is counted from the end, so that an unbatched input works too
    dim = x.dim() - W.dim() + 1
    if dim not in (0, 1) or x.shape[dim] != channels:
        unbatched = W.dim() - 1
        raise RuntimeError(
            f"expected a {unbatched}D (unbatched) or {unbatched + 1}D input of {channels} channels, "
            f"not one of shape {tuple(x.shape)}"
        )
    return regroup(x, n, groups, dim)


def _ungroup_channels(y: Tensor, n: int, groups: int, W: Tensor, bias: Tensor | None) -> Tensor:
    y = ungroup(y, n, groups, y.dim() - W.dim() + 1)
    return y if bias is None else y + bias.to(y.dtype).reshape(-1, *(1,) * (W.dim() - 2))
