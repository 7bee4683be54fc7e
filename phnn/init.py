"""Initialisation, defined on the weight W that a layer computes with, not on its parameters.

Var(W[k, j]) = sum_i A_i[k, j]^2 Var(F_i). With sum_i A_i[k, j]^2 = 1 for every block, F takes the distribution that
the real layer's weight would take, with the real layer's fans. The only source of randomness is torch's generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def random_rule_(A: Tensor) -> Tensor:
    """Fill A (n, n, n) with N(0, 1/n), then rescale every block: sum_i A_i[k, j]^2 = 1. In place."""
    with torch.no_grad():
        nn.init.normal_(A, std=A.shape[0] ** -0.5)
        return A.div_(A.norm(dim=0, keepdim=True))


def filter_gain(A: Tensor) -> float:
    """The factor on F's standard deviation that gives W the wanted variance, averaged over its rows.

    1 where sum_i A_i[k, j]^2 = 1 for every block; larger for algebras with zero blocks (dual numbers).
    """
    if A.is_meta:
        return 1.0
    n = A.shape[0]
    return n / float(A.detach().double().square().sum().sqrt())


def fans(F: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of W, from F of shape (n, out/n, in/(n groups), *kernel): the real layer's fans."""
    n, out, cols, *kernel = F.shape
    taps = math.prod(kernel)
    return n * cols * taps, n * out * taps


def uniform_(F: Tensor, A: Tensor, std: float) -> Tensor:
    """Fill F uniformly so that W has standard deviation ``std`` on average over its rows. In place."""
    bound = math.sqrt(3) * std * filter_gain(A)
    return nn.init.uniform_(F, -bound, bound)


def normal_(F: Tensor, A: Tensor, std: float) -> Tensor:
    """Fill F normally so that W has standard deviation ``std`` on average over its rows. In place."""
    return nn.init.normal_(F, std=std * filter_gain(A))


def default_std(fan_in: int) -> float:
    """The standard deviation of torch's default weights, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return 1 / math.sqrt(3 * fan_in)


def kaiming_normal_(module: nn.Module, mode: str = "fan_out", nonlinearity: str = "relu") -> None:
    """He initialisation of a torch layer or of a hypercomplex one, by the variance of its weight. In place.

    Source: He et al., *Delving deep into rectifiers*, 2015.
    """
    F = getattr(module, "F", None)
    if F is None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        nn.init.kaiming_normal_(weight, mode=mode, nonlinearity=nonlinearity)  # type: ignore[arg-type]
        return
    A = module.A
    assert isinstance(A, Tensor)
    fan = fans(F)[0 if mode == "fan_in" else 1]
    normal_(F, A, nn.init.calculate_gain(nonlinearity) / math.sqrt(fan))  # type: ignore[arg-type]
