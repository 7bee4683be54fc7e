"""The search for a bilinear decomposition: alternating least squares from seeded starts, then Levenberg–Marquardt.

Takes a tensor and a rank, gives factors and their residual. Deterministic; knows no algebra and no cache.
"""

from __future__ import annotations

import numpy as np

from ._exact_ranks import Factors

_STARTS = 8
_RIDGE = np.geomspace(1e-1, 1e-9, 300)  # large at first: factors that would cancel each other stay small
_STEPS = 100
_CONVERGED = 1e-14
_POLISHED = 3  # starts that are worth Levenberg–Marquardt, best first
_LARGE = 2000  # unknowns from which on one start must do: a step takes seconds


def search(T: np.ndarray, rank: int, seed: int = 0) -> Factors:
    """Factors of T (n, n, n) with ``rank`` terms, of the smallest residual found; of near ties the best conditioned.

    The residual ||T^ - T|| / ||T|| reaches 1e-12 where the rank suffices and the starts are lucky.
    """
    starts = _alternating(T, rank, np.random.default_rng(seed))
    starts.sort(key=lambda factors: relative_residual(T, factors))
    worth = _POLISHED if 3 * rank * len(T) < _LARGE else 1
    polished = [_polished(T, factors) for factors in starts[:worth]]
    smallest = min(relative_residual(T, factors) for factors in polished)
    ties = [factors for factors in polished if relative_residual(T, factors) <= max(10 * smallest, 1e-11)]
    return _balanced(min(ties, key=condition))


def relative_residual(T: np.ndarray, factors: Factors) -> float:
    """||T^ - T|| / ||T||, in the Frobenius norm."""
    return float(np.linalg.norm(factors.rebuilt() - T) / np.linalg.norm(T))


def condition(factors: Factors) -> float:
    """sum_r ||a_r|| ||b_r|| ||c_r|| / ||T||: how far the terms outgrow their sum, hence how errors are amplified."""
    terms = np.prod([np.linalg.norm(m, axis=1) for m in factors], axis=0)
    return float(terms.sum() / np.linalg.norm(factors.rebuilt()))


def _alternating(T: np.ndarray, rank: int, rng: np.random.Generator) -> list[Factors]:
    """Ridge-regularised alternating least squares, all starts at once."""
    n = len(T)
    scale = np.linalg.norm(T) ** (1 / 3) / n**0.5
    a, b, c = rng.normal(size=(3, _STARTS, rank, n)) * scale
    eye = np.eye(rank)
    for ridge in _RIDGE * scale**4:
        # each factor solves a linear problem whose matrix is the Khatri–Rao product of the other two
        a = np.linalg.solve(_gram(b) * _gram(c) + ridge * eye, np.einsum("ijk,zrj,zrk->zri", T, b, c, optimize=True))
        b = np.linalg.solve(_gram(a) * _gram(c) + ridge * eye, np.einsum("ijk,zri,zrk->zrj", T, a, c, optimize=True))
        c = np.linalg.solve(_gram(a) * _gram(b) + ridge * eye, np.einsum("ijk,zri,zrj->zrk", T, a, b, optimize=True))
    return [Factors(*factors) for factors in zip(a, b, c, strict=True)]


def _gram(m: np.ndarray) -> np.ndarray:
    return m @ m.swapaxes(1, 2)


def _polished(T: np.ndarray, start: Factors) -> Factors:
    """Levenberg–Marquardt on all factors together: quadratic convergence where alternation crawls."""
    factors, damping = _balanced(start), 1e-4
    error = relative_residual(T, factors)
    for _ in range(_STEPS):
        if error < _CONVERGED or damping > 1e8:
            break
        J, r = _jacobian(factors), (T - factors.rebuilt()).ravel()
        normal, gradient = J.T @ J, J.T @ r
        # scaling a against b leaves T as it is, so the normal matrix is singular without damping
        step = np.linalg.solve(normal + damping * np.eye(len(normal)), gradient)
        moved = Factors(*(m + d for m, d in zip(factors, step.reshape(3, *factors.a.shape), strict=True)))
        if (found := relative_residual(T, moved)) < error:
            slow = found > 0.99999 * error and found < 1e-9
            factors, error, damping = moved, found, max(damping / 5, 1e-13)
            if slow:
                break
        else:
            damping *= 4
    return factors


def _jacobian(f: Factors) -> np.ndarray:
    """d T^ / d (a, b, c), of shape (n^3, 3 R n)."""
    rank, n = f.a.shape
    eye = np.eye(n)
    parts = [
        np.einsum("il,rj,rk->ijkrl", eye, f.b, f.c),
        np.einsum("ri,jl,rk->ijkrl", f.a, eye, f.c),
        np.einsum("ri,rj,kl->ijkrl", f.a, f.b, eye),
    ]
    return np.concatenate([part.reshape(n**3, rank * n) for part in parts], axis=1)


def _balanced(f: Factors) -> Factors:
    """The same terms, each with its three factors of equal norm."""
    norms = np.stack([np.linalg.norm(m, axis=1) for m in f])
    norms = np.maximum(norms, 1e-300)
    shared = np.prod(norms, axis=0) ** (1 / 3)
    return Factors(*(m * (shared / norm)[:, None] for m, norm in zip(f, norms, strict=True)))
