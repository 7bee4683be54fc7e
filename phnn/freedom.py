"""Degrees of freedom: how many independent directions the weights of a layer have, of all its parameters.

W = sum_i A_i (x) F_i is the product of a matrix A (n^2, n) and a matrix F (n, m), rearranged, with m the entries of
one F_i. (A, F) → (A M, M^-1 F) leaves it as it is, so that a learned rule makes n^2 parameters redundant. A block of
quaternion rotations is s R(F): the length of F, one of its 4 parameters, is redundant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers._base import RuleHolder
from .layers.rotation import QuaternionRotation


def dof(module: nn.Module) -> int:
    """The rank of dW/dtheta at the module's parameters, over all its weights W and what they are built from.

    Numerical: from the ranks of A and F as they are. The image of dA F + A dF has dimension
    n^2 rank(F) + m rank(A) - rank(A) rank(F); a fixed rule has only the part m rank(A). Weights that share a rule
    count together. A rotation has 3 directions, unless its scale is 0, and its scale one. Other parameters count
    whole, biases not at all. Raises ValueError for parameters on meta, whose
    values nobody knows.
    """
    turned = sum(s.numel() + 3 * int(_known(s).count_nonzero()) for s in _scales(module))
    return _weights_elsewhere(module) + turned + sum(_rank(A, F) for A, F in _stacked(module))


def dof_formula(module: nn.Module) -> int:
    """What ``dof`` is at almost all parameters: n^3 + n m - n^2 for each learned rule, n m for each fixed one.

    For one layer that is n^3 + in * out * taps / n - n^2, as long as n <= m. A rotation has 4.
    """
    total = _weights_elsewhere(module) + sum(4 * s.numel() for s in _scales(module))
    for A, filters in _stacked(module):
        n, m = len(filters), filters.shape[1]
        r = min(n, m)
        total += r * (n * n + m - r) if isinstance(A, nn.Parameter) else n * m
    return total


def redundancy(module: nn.Module) -> int:
    """How many of the module's parameters change no weight: what its rules and filters have beyond ``dof``."""
    held = {id(t): t.numel() for pair in _factors(module) for t in pair if isinstance(t, nn.Parameter)}
    turned = sum(5 * s.numel() for s in _scales(module))
    return sum(held.values()) + turned + _weights_elsewhere(module) - dof(module)


def _factors(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [pair for m in module.modules() if isinstance(m, RuleHolder) for pair in m.factors()]


def _rotations(module: nn.Module) -> list[QuaternionRotation]:
    return [m for m in module.modules() if isinstance(m, QuaternionRotation)]


def _scales(module: nn.Module) -> list[Tensor]:
    return [m.scale for m in _rotations(module)]


def _known(t: Tensor) -> Tensor:
    if t.is_meta:
        raise ValueError("dof needs the values of the parameters, and on the meta device they have none")
    return t.detach()


def _stacked(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Each rule once, with the filters that it serves side by side as one matrix (n, m)."""
    by_rule: dict[int, tuple[Tensor, list[Tensor]]] = {}
    for A, F in _factors(module):
        by_rule.setdefault(id(A), (A, []))[1].append(F.detach().flatten(1))
    return [(A, torch.cat(filters, 1)) for A, filters in by_rule.values()]


def _rank(A: Tensor, filters: Tensor) -> int:
    n, m = filters.shape
    rank_A = int(torch.linalg.matrix_rank(_known(A).double().reshape(n, n * n)))
    if not isinstance(A, nn.Parameter):
        return m * rank_A
    # the rank of F (n, m), from its n×n Gram matrix: m may be millions
    gram = _known(filters).double() @ filters.double().t()
    rank_F = int(torch.linalg.matrix_rank(gram, hermitian=True))
    return n * n * rank_F + m * rank_A - rank_A * rank_F


def _weights_elsewhere(module: nn.Module) -> int:
    """Parameters that are weights themselves: neither of a pair (A, F), nor of a rotation, nor a bias."""
    others = {id(t) for pair in _factors(module) for t in pair}
    others |= {id(t) for m in _rotations(module) for t in (m.F, m.scale)}
    return sum(p.numel() for name, p in module.named_parameters() if id(p) not in others and not _is_bias(name))


def _is_bias(path: str) -> bool:
    """By the parameter's own name (bias, bias_ih_l0, in_proj_bias), not by those of the modules that hold it."""
    return "bias" in path.rpartition(".")[2].split("_")
