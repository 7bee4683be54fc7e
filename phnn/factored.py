"""The factored path: contract the filters F with x first, then mix with the rule A. W is never built.

y_k = sum_ij A[i, k, j] (F_i x_j): every filter meets every component, which is the real layer's arithmetic with 1/n
of its weights to read. It wins where weights are what a call waits for: few rows, large layers.
Pure functions of tensors; nothing here caches, chooses or searches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bilinear import GroupedOperator, biased
from .mixing import mixed


def factored_linear(x: Tensor, A: Tensor, F: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + bias. x: (..., in); A: (n, n, n); F: (n, out/n, in/n); y: (..., out)."""
    n, out, columns = F.shape
    X = x.reshape(-1, columns)  # a row for each (row of x, component)
    # filters to the left: with n columns to the right, the library streams F once instead of packing it
    Z = (F.reshape(n * out, columns) @ X.t()).t().contiguous()
    Z = Z.view(X.shape[0] // n, n * n, out)  # row, (j, i), p
    y = torch.bmm(_mixing(A).expand(Z.shape[0], n, n * n), Z).reshape(*x.shape[:-1], n * out)
    return biased(y, bias, 0)


def factored_conv(
    x: Tensor,
    A: Tensor,
    F: Tensor,
    bias: Tensor | None,
    groups: int,
    operator: GroupedOperator,
    *,
    transposed: bool = False,
) -> Tensor:
    """W applied by ``operator`` to each component on its own. x: (batch, in, *size); A: (n, n, n).

    F: (n, out/n, in/(n groups), *kernel), or with ``transposed`` (n, in/n, out/(n groups), *kernel). Components
    become images: the batch is n times as large, its channels are those of one component.
    """
    n, batch = F.shape[0], x.shape[0]
    components = x.reshape(batch * n, x.shape[1] // n, *x.shape[2:])
    Z = operator(components, _side_by_side(F, groups, transposed), groups)
    if groups > 1:  # channels are (group, i, index); i belongs in front
        Z = Z.unflatten(1, (groups, n, -1)).transpose(1, 2).flatten(1, 3)
    y = mixed(_mixing(A), Z.reshape(batch, n * Z.shape[1], *Z.shape[2:]))
    return biased(y, bias, y.dim() - 2)


def _side_by_side(F: Tensor, groups: int, transposed: bool) -> Tensor:
    """All n filters as one filter whose output channels are (group, i, index)."""
    if transposed:
        return F.transpose(0, 1).flatten(1, 2)
    return F.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)


def _mixing(A: Tensor) -> Tensor:
    """(n, n n) with rows k and columns (j, i)."""
    n = A.shape[0]
    return A.permute(1, 2, 0).reshape(n, n * n)
