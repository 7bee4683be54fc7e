"""Degrees of freedom: how many independent directions the weights of a layer have, of all its parameters.

W = sum_i A_i (x) F_i is the product of a matrix A (n^2, n) and a matrix F (n, m), rearranged, with m the entries of
one F_i. (A, F) → (A M, M^-1 F) leaves it as it is, so that a learned rule makes n^2 parameters redundant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers._base import RuleHolder


def dof(module: nn.Module) -> int:
    """The rank of dW/dtheta at the module's parameters, over all its weights W and what they are built from.

    Numerical: from the ranks of A and F as they are. The image of dA F + A dF has dimension
    n^2 rank(F) + m rank(A) - rank(A) rank(F); a fixed rule has only the part m rank(A). Weights that share a rule
    count together. Other parameters count whole, biases not at all. Raises ValueError for parameters on meta, whose
    values nobody knows.
    """
    return _weights_elsewhere(module) + sum(_rank(A, F) for A, F in _stacked(module))


def dof_formula(module: nn.Module) -> int:
    """What ``dof`` is at almost all parameters: n^3 + n m - n^2 for each learned rule, n m for each fixed one.

    For one layer that is n^3 + in * out * taps / n - n^2, as long as n <= m.
    """
    total = _weights_elsewhere(module)
    for A, filters in _stacked(module):
        n, m = len(filters), filters.shape[1]
        r = min(n, m)
        total += r * (n * n + m - r) if isinstance(A, nn.Parameter) else n * m
    return total


def redundancy(module: nn.Module) -> int:
    """How many of the module's parameters change no weight: what its rules and filters have beyond ``dof``."""
    held = {id(t): t.numel() for pair in _factors(module) for t in pair if isinstance(t, nn.Parameter)}
    return sum(held.values()) + _weights_elsewhere(module) - dof(module)


def _factors(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [pair for m in module.modules() if isinstance(m, RuleHolder) for pair in m.factors()]


def _stacked(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Each rule once, with the filters that it serves side by side as one matrix (n, m)."""
    by_rule: dict[int, tuple[Tensor, list[Tensor]]] = {}
    for A, F in _factors(module):
        by_rule.setdefault(id(A), (A, []))[1].append(F.detach().flatten(1))
    return [(A, torch.cat(filters, 1)) for A, filters in by_rule.values()]


def _rank(A: Tensor, filters: Tensor) -> int:
    if A.is_meta or filters.is_meta:
        raise ValueError("dof needs the values of the parameters, and on the meta device they have none")
    n, m = filters.shape
    rank_A = int(torch.linalg.matrix_rank(A.detach().double().reshape(n, n * n)))
    if not isinstance(A, nn.Parameter):
        return m * rank_A
    # the rank of F (n, m), from its n×n Gram matrix: m may be millions
    gram = filters.double() @ filters.double().t()
    rank_F = int(torch.linalg.matrix_rank(gram, hermitian=True))
    return n * n * rank_F + m * rank_A - rank_A * rank_F


def _weights_elsewhere(module: nn.Module) -> int:
    """Parameters that are weights themselves: neither of a pair (A, F) nor a bias."""
    pairs = {id(t) for pair in _factors(module) for t in pair}
    return sum(p.numel() for name, p in module.named_parameters() if id(p) not in pairs and "bias" not in name)
