"""The sum of Kronecker products nearest to a real weight: min over A, F of ||W - sum_i A_i (x) F_i||, Frobenius.

With the block (k, j) of W as a row of R (n^2, m), sum_i A_i (x) F_i becomes the product of a matrix (n^2, n) that
holds A and one (n, m) that holds F. The nearest product is, for a free rule, the best approximation of R of rank n
(its leading singular vectors), and for a given rule a least squares problem. Arithmetic is float64, on the CPU.
Source: Van Loan and Pitsianis, *Approximation with Kronecker products*, 1993; Eckart and Young, 1936.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_COLUMNS = 1 << 18  # of R in float64 at a time: a classifier of VGG has millions


@dataclass(frozen=True)
class Product:
    """A weight of a torch layer, and the pair (A, F) that takes its place.

    weight: (n o, n c, *kernel), rows and columns component-major; A: (n, n, n); F: (n, o, c, *kernel). own: the
    parameters that only this weight is made of, F and what a learned rule consists of. ``trains``: the torch layer's
    weight asks for a gradient. ``transposed``: of a transposed convolution, W = sum_i A_i^T (x) F_i.
    """

    weight: Tensor
    A: Tensor
    F: Tensor
    own: tuple[nn.Parameter, ...]
    trains: bool
    transposed: bool = False

    @property
    def free(self) -> bool:
        """Whether A is this weight's own to choose."""
        return any(parameter is self.A for parameter in self.own)


def project_(product: Product) -> tuple[float, float]:
    """Fill F, and a free A, with what comes nearest to the weight. In place; (||W - W_ph||^2, ||W||^2).

    The error is that of the parameters as they are stored, rounded to their dtype.
    """
    n = product.A.shape[0]
    R = rearranged(product.weight.detach().cpu(), n)
    if product.free:
        M = nearest_rule(R, n)
        stored = M.t().reshape(n, n, n)
        _copy(product.A, stored.mT if product.transposed else stored)
    # of the rule as it was rounded
    rule = product.A.detach().cpu().double()
    M = (rule.mT if product.transposed else rule).reshape(n, n * n).t()
    filters = nearest_filters(R, M)
    _copy(product.F, filters.reshape(product.F.shape))
    return squared_distance(R, M, product.F.detach().cpu().flatten(1)), _squared(R)


def rearranged(W: Tensor, n: int) -> Tensor:
    """R (n^2, m): the block (k, j) of W (n o, n c, *kernel) as row k n + j."""
    rows, cols, *kernel = W.shape
    return W.reshape(n, rows // n, n, cols // n, *kernel).transpose(1, 2).reshape(n * n, -1)


def nearest_rule(R: Tensor, n: int) -> Tensor:
    """The rule of the best approximation of R of rank n, as a matrix (n^2, n): A[i, k, j] = M[k n + j, i].

    Of all the rules that serve equally well, A → A M, that with orthogonal A_i of squared norm n: sum_i A_i[k, j]^2
    is 1 on average over the blocks, as at initialisation, and F carries the scale of W. A_0 explains most of W. Where
    fewer than n matrices make W (all of it zero, say), the others are drawn at random, so that they can be learned.
    """
    gram = sum((part @ part.t() for part in _parts(R)), torch.zeros(n * n, n * n, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(gram)
    values, U = values.flip(0)[:n], vectors.flip(1)[:, :n]
    resolved = torch.finfo(torch.float64).eps * n * n  # an eigenvalue below this share of the largest is rounding
    needed = int((values > resolved * values[0]).sum()) if values[0] > 0 else 0
    if needed < n:
        U = torch.linalg.qr(torch.cat([U[:, :needed], torch.randn(n * n, n - needed, dtype=torch.float64)], 1))[0]
    return math.sqrt(n) * U


def nearest_filters(R: Tensor, M: Tensor) -> Tensor:
    """F as a matrix (n, m): the least squares solution of M F = R for a rule M (n^2, n)."""
    inverse = torch.linalg.pinv(M)
    return torch.cat([inverse @ part for part in _parts(R)], 1)


def squared_distance(R: Tensor, M: Tensor, F: Tensor) -> float:
    """||R - M F||^2."""
    parts = zip(_parts(R), _parts(F), strict=True)
    return float(sum((r - M @ f).square().sum() for r, f in parts))


def _squared(R: Tensor) -> float:
    return float(sum(part.square().sum() for part in _parts(R)))


def _parts(R: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in R.split(_COLUMNS, 1))


def _copy(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)
