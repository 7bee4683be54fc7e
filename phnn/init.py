"""Initialisation, defined on the weight W that a layer computes with, not on its parameters.

Var(W[k, j]) = sum_i A_i[k, j]^2 Var(F_i). With sum_i A_i[k, j]^2 = 1 for every block, F takes the distribution that
the real layer's weight would take, with the real layer's fans. The only source of randomness is torch's generator.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .algebras import Algebra, near_matches
from .algebras import algebra as find_algebra

Mode = Literal["fan_in", "fan_out"]

# ------------------------------------------------------------------------------------------------------- rules


def learned_rule(
    n: int, rule_init: str | Algebra | None = None, *, device: Any = None, dtype: torch.dtype | None = None
) -> nn.Parameter:
    """A learned rule A (n, n, n) that several layers can share, each through its argument ``rule``.

    It is one parameter, which the optimizer sees once; as with any tied parameter of torch, each layer's state_dict
    holds it, and deepcopy keeps it shared within what is copied together. It belongs to who made it: a layer's
    ``reset_parameters`` leaves it alone, ``rule_(rule)`` draws it anew. What makes new parameters (``to_empty`` from
    meta, ``load_state_dict(assign=True)``) unties it, as it does torch's: assign it to the layers again, and draw it
    before their ``reset_parameters``.
    """
    return nn.Parameter(rule_(torch.empty(n, n, n, device=device, dtype=dtype), rule_init))


def rule_(A: Tensor, rule_init: str | Algebra | None = None) -> Tensor:
    """Fill a learned rule A (n, n, n). In place.

    rule_init: ``random`` (the default): ``random_rule_``; ``signed_permutation``: ``signed_permutation_rule_``; an
    algebra of dimension n, by name or itself: its rule; ``"<name>+<std>"``: its rule with N(0, std^2) added to every
    entry. Raises ValueError for any other name and for an algebra of another dimension.
    """
    match rule_init:
        case None | "random":
            return random_rule_(A)
        case "signed_permutation":
            return signed_permutation_rule_(A)
        case Algebra():
            return algebra_rule_(A, rule_init)
    if not isinstance(rule_init, str):
        raise TypeError(f"rule_init is a name or an Algebra, not {rule_init!r}")
    name, _, noise = rule_init.partition("+")
    if not re.fullmatch(r"|\s*\d*\.?\d+(e-?\d+)?\s*", noise) or rule_init.endswith("+"):
        raise ValueError(f"rule_init={rule_init!r}: after + comes a standard deviation, as in 'quaternion+0.1'")
    if re.fullmatch(r"\w+", name) and name.startswith(("rand", "sign")):
        raise ValueError(f"unknown rule_init {rule_init!r}{near_matches(name, ('random', 'signed_permutation'))}")
    return algebra_rule_(A, find_algebra(name), float(noise or 0))


def random_rule_(A: Tensor) -> Tensor:
    """Fill A (n, n, n) with N(0, 1/n), then rescale every block: sum_i A_i[k, j]^2 = 1. In place."""
    with torch.no_grad():
        nn.init.normal_(A, std=A.shape[0] ** -0.5)
        return A.div_(A.norm(dim=0, keepdim=True))


def rule_factors_(a: Tensor, b: Tensor, c: Tensor) -> None:
    """Fill the factors (R, n) of a learned rule: b and c orthogonal, a normal, sum_ikj A_i[k, j]^2 = n^2. In place.

    Orthogonal mixing neither drowns nor repeats a component, so that every block product has something to say.
    """
    n = a.shape[1]
    with torch.no_grad():
        for m in (b, c):
            half = m.dtype in (torch.bfloat16, torch.float16)  # for which torch has no QR decomposition
            m.copy_(nn.init.orthogonal_(torch.empty_like(m, dtype=torch.float32) if half else m))
        nn.init.normal_(a)
        if not a.is_meta:
            a.mul_(n / torch.einsum("ri,rk,rj->ikj", a, c, b).norm())


def signed_permutation_rule_(A: Tensor) -> Tensor:
    """Fill A with random signed permutation matrices A_i that cover every block (k, j) once. In place.

    The rule of a random algebra like the quaternions: e_i e_j = ±e_k, k a Latin square of (i, j), drawn by permuting
    the rows, the columns and the symbols of the cyclic one.
    """
    n = A.shape[0]
    rows, cols, symbols = (torch.randperm(n) for _ in range(3))
    symbol = symbols[(rows.unsqueeze(1) + cols.unsqueeze(0)) % n]  # of (k, j): the i whose A_i has the entry
    sign = torch.randint(2, (n, n)) * 2.0 - 1.0
    with torch.no_grad():
        return A.copy_(sign * torch.eye(n)[symbol].permute(2, 0, 1))


def algebra_rule_(A: Tensor, algebra: Algebra, noise: float = 0.0) -> Tensor:
    """Fill A with the rule of a fixed algebra, plus N(0, noise^2) in every entry. In place.

    The scale of what comes out is left to F: ``filter_gain`` sees A as it is.
    """
    if algebra.n != A.shape[0]:
        raise ValueError(f"rule_init={algebra.name!r} has n={algebra.n}, the layer has n={A.shape[0]}")
    with torch.no_grad():
        A.copy_(torch.tensor(algebra.rule))
        return A.add_(torch.randn_like(A), alpha=noise) if noise else A


# ----------------------------------------------------------------------------------------------------- filters


def filter_gain(A: Tensor) -> float:
    """The factor on F's standard deviation that gives W the wanted variance, averaged over its rows.

    1 where sum_i A_i[k, j]^2 = 1 for every block; larger for algebras with zero blocks (dual numbers).
    """
    if A.is_meta:
        return 1.0
    n = A.shape[0]
    return n / float(A.detach().double().square().sum().sqrt())


def fans(F: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of W, from F of shape (n, out/n, in/(n groups), *kernel): the real layer's fans.

    As torch.nn.init counts them from a weight's shape: for a transposed convolution, in and out change places.
    """
    n, out, cols, *kernel = F.shape
    taps = math.prod(kernel)
    return n * cols * taps, n * out * taps


def uniform_(F: Tensor, A: Tensor, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Fill F uniformly so that W has standard deviation ``std`` on average over its rows. In place."""
    bound = math.sqrt(3) * std * filter_gain(A)
    return nn.init.uniform_(F, -bound, bound, generator)


def normal_(F: Tensor, A: Tensor, std: float, generator: torch.Generator | None = None) -> Tensor:
    """Fill F normally so that W has standard deviation ``std`` on average over its rows. In place."""
    return nn.init.normal_(F, std=std * filter_gain(A), generator=generator)


def default_std(fan_in: int) -> float:
    """The standard deviation of torch's default weights, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return 1 / math.sqrt(3 * fan_in)


def kaiming_std(F: Tensor, mode: str = "fan_in", nonlinearity: str = "leaky_relu", a: float = 0.0) -> float:
    """gain / sqrt(fan): what keeps the variance through a layer and its nonlinearity (``a``: leaky slope)."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"unknown mode {mode!r}{near_matches(mode, ('fan_in', 'fan_out'))}")
    gain = nn.init.calculate_gain(nonlinearity, a if nonlinearity == "leaky_relu" else None)  # type: ignore[arg-type]
    return gain / math.sqrt(fans(F)[mode == "fan_out"])


def xavier_std(F: Tensor, gain: float = 1.0) -> float:
    """gain * sqrt(2 / (fan_in + fan_out))."""
    return gain * math.sqrt(2 / sum(fans(F)))


# ----------------------------------------------------------------------------------------------------- modules
# What torch.nn.init does to a weight, done to the weight of a layer: of torch, or hypercomplex.


def kaiming_normal_(
    module: nn.Module,
    mode: Mode = "fan_out",
    nonlinearity: str = "relu",
    *,
    a: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """He initialisation of a layer, by the variance of its weight: N(0, gain^2 / fan). In place.

    Source: He et al., *Delving deep into rectifiers*, 2015.
    """
    for A, F in _factors(module):
        normal_(F, A, kaiming_std(F, mode, nonlinearity, a), generator)


def kaiming_uniform_(
    module: nn.Module,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    a: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """He initialisation of a layer, by the variance of its weight: uniform of variance gain^2 / fan. In place."""
    for A, F in _factors(module):
        uniform_(F, A, kaiming_std(F, mode, nonlinearity, a), generator)


def xavier_normal_(module: nn.Module, gain: float = 1.0, *, generator: torch.Generator | None = None) -> None:
    """Glorot initialisation of a layer: N(0, 2 gain^2 / (fan_in + fan_out)). In place.

    Source: Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010.
    """
    for A, F in _factors(module):
        normal_(F, A, xavier_std(F, gain), generator)


def xavier_uniform_(module: nn.Module, gain: float = 1.0, *, generator: torch.Generator | None = None) -> None:
    """Glorot initialisation of a layer: uniform of variance 2 gain^2 / (fan_in + fan_out). In place."""
    for A, F in _factors(module):
        uniform_(F, A, xavier_std(F, gain), generator)


def _factors(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The pairs (A, F) of a layer; torch's own layers have n=1, A=1 and F=weight."""
    factors = getattr(module, "factors", None)
    if factors is not None:
        return factors()
    weight = module._parameters.get("weight")  # a property would be a copy: filling it would change nothing
    if weight is None or weight.dim() < 2:
        raise TypeError(f"{type(module).__name__} has no weight of its own to initialise: give each of its layers")
    return [(torch.ones(1, 1, 1), weight.detach().unsqueeze(0))]
