"""Bilinear decompositions: how few block products a multiplication rule needs.

If T[i, j, k] = sum_r a[r, i] b[r, j] c[r, k], then y = w*x is R products of mixed inputs instead of n^2:
y_k = sum_r c[r, k] (sum_i a[r, i] w_i) (sum_j b[r, j] x_j). Named algebras, and what is built from them, have
exact constructions; any other tensor is searched for once and kept in the user's cache folder.
Numbers only: no torch, no layer.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ._exact_ranks import Factors, exact_factors
from ._rank_search import condition, relative_residual, search
from .algebras import Algebra
from .algebras import algebra as find_algebra

_VERSION = 1  # of the search: another version leaves the results of this one alone
_EXACT = 1e-11  # a searched residual below this ends the search for a larger rank


@dataclass(frozen=True, eq=False)
class Decomposition:
    """T[i, j, k] ~ sum_r a[r, i] b[r, j] c[r, k], with what it costs in accuracy.

    a, b, c: (R, n), float64, read-only. residual: ||T^ - T|| / ||T||. max_coefficient: the largest |entry|.
    condition: sum_r ||a_r|| ||b_r|| ||c_r|| / ||T||, by which rounding errors of the terms outgrow their sum.
    rank: R, the number of block products; n: dimension of the algebra.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    residual: float
    max_coefficient: float
    condition: float
    # plain numbers: a compiler that reads them must not take hold of the arrays
    rank: int = field(init=False)
    n: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rank", len(self.a))
        object.__setattr__(self, "n", self.a.shape[1])

    def rebuilt(self) -> np.ndarray:
        """The T that the factors make, of shape (n, n, n)."""
        return Factors(self.a, self.b, self.c).rebuilt()

    def __repr__(self) -> str:
        return (
            f"Decomposition(n={self.n}, rank={self.rank} of {self.n**2}, residual={self.residual:.1e}, "
            f"max_coefficient={self.max_coefficient:.2f}, condition={self.condition:.1f})"
        )


def decompose(of: str | Algebra | np.ndarray, rank: int | None = None) -> Decomposition:
    """The decomposition of a fixed algebra, or of structure constants T (n, n, n), into ``rank`` terms.

    rank None: the exact construction if one is known, else the smallest rank from ``generic_rank`` upwards at which
    the search closes; if none does, the last one tried, with its residual. A rank given is searched for, unless the
    exact construction has just that. Raises ValueError for a learned algebra, a T that is no cube or not finite, and
    a rank below 1.
    """
    T, algebra = _constants(of)
    if rank is not None and rank < 1:
        raise ValueError(f"a decomposition has at least one term, not rank={rank}")
    exact = exact_decomposition(algebra)
    if exact is not None and rank in (None, exact.rank):
        return exact
    n = len(T)
    if rank is not None:
        return _searched(T, rank)
    low = generic_rank(n)
    high = max(low + 1, math.ceil(1.08 * low))
    for candidate in range(low, high + 1):
        found = _searched(T, candidate)
        if found.residual <= _EXACT:
            break
    return found


@lru_cache(maxsize=64)
def exact_decomposition(algebra: Algebra) -> Decomposition | None:
    """The exact construction for a fixed algebra, without a search; None where none is known."""
    factors = exact_factors(algebra)
    return None if factors is None else _described(algebra.constants, factors)


def generic_rank(n: int) -> int:
    """The smallest rank that a learned rule can be expected to have, by counting parameters.

    n^3 equations, R (3n - 2) unknowns; 3×3×3 is the known exception, where 4 terms leave a hypersurface out.
    A 2×2×2 tensor has rank 2 with probability pi/4, else 3. Beyond n = 8 the search does not reach the count, and
    3/8 n^2 is what it closes at (n = 16: 96). Source of the count: Strassen 1983.
    """
    if n == 3:
        return 5
    return math.ceil(3 * n * n / 8) if n > 8 else math.ceil(n**3 / (3 * n - 2))


def _constants(of: str | Algebra | np.ndarray) -> tuple[np.ndarray, Algebra]:
    if not isinstance(of, np.ndarray):
        algebra = find_algebra(of)
        return algebra.constants, algebra
    if of.ndim != 3 or len(set(of.shape)) != 1 or not len(of):
        raise ValueError(f"structure constants have shape (n, n, n), not {of.shape}")
    if not np.isfinite(of).all() or not of.any():
        raise ValueError("structure constants must be finite, and not all zero")
    algebra = Algebra("T", len(of), of)
    return algebra.constants, algebra


def _described(T: np.ndarray, factors: Factors) -> Decomposition:
    a, b, c = (np.array(m, dtype=np.float64) for m in factors)
    for m in (a, b, c):
        m.flags.writeable = False
    largest = float(max(np.abs(m).max() for m in (a, b, c)))
    return Decomposition(a, b, c, relative_residual(T, factors), largest, condition(factors))


def _searched(T: np.ndarray, rank: int) -> Decomposition:
    """From the cache, or by a search whose result is cached. Scale is taken out: it says nothing about the rank."""
    scale = float(np.abs(T).max())
    file = _cache_file(T / scale, rank)
    factors = _load(file, rank, len(T))
    if factors is None:
        factors = search(T / scale, rank)
        _save(file, factors)
    return _described(T, Factors(factors.a * scale, factors.b, factors.c))


# ------------------------------------------------------------------------------------------- the cache on disk


def cache_folder() -> Path:
    """Where found decompositions are kept: $XDG_CACHE_HOME/phnn, or the platform's place for caches."""
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "phnn"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "phnn" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "phnn"
    return Path.home() / ".cache" / "phnn"


def _cache_file(T: np.ndarray, rank: int) -> Path:
    # + 0.0: -0.0 is the same tensor
    digest = hashlib.sha256((T + 0.0).tobytes() + f"|{T.shape}|{rank}|{_VERSION}".encode()).hexdigest()
    return cache_folder() / "ranks" / f"{digest[:32]}.npz"


def _load(file: Path, rank: int, n: int) -> Factors | None:
    """The cached factors; None if there are none or the file is damaged, in which case it will be written anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            factors = Factors(stored["a"], stored["b"], stored["c"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sound = all(m.shape == (rank, n) and m.dtype == np.float64 and np.isfinite(m).all() for m in factors)
    return factors if sound else None


def _save(file: Path, factors: Factors) -> None:
    """Write all or nothing; a folder that cannot be written costs the next caller a search, not this one an error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
            np.savez(temporary, allow_pickle=False, a=factors.a, b=factors.b, c=factors.c)
        os.replace(temporary.name, file)
    except OSError:
        return
