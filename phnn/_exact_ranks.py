"""Exact bilinear decompositions of the named algebras, and of every algebra that is built from them.

A decomposition is its factors (a, b, c), each (R, n), with T[i, j, k] = sum_r a[r, i] b[r, j] c[r, k]. Fractions
are kept in ``a``, which meets the filters once, so that b and c, which meet every input and output, are small
integers. Numbers only: no search, no cache, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product
from typing import NamedTuple

import numpy as np

from .algebras import Algebra, algebra, clifford, cyclic, tensor

_EXACT = 1e-12


class Factors(NamedTuple):
    """a, b, c of shape (R, n) each."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    @property
    def rank(self) -> int:
        return len(self.a)

    def rebuilt(self) -> np.ndarray:
        """T[i, j, k] = sum_r a[r, i] b[r, j] c[r, k]."""
        return np.einsum("ri,rj,rk->ijk", self.a, self.b, self.c, optimize=True)


def exact_factors(found: Algebra) -> Factors | None:
    """The best construction known here for a fixed algebra, verified; None where there is none."""
    T = found.constants
    makers = (_named, _by_cyclic_convolution, _by_isomorphism, _by_sign_corrections, _by_null_generator)
    for make in makers:
        factors = make(found)
        if factors is not None and np.abs(factors.rebuilt() - T).max() <= _EXACT:
            return factors
    return None


def hadamard(k: int) -> np.ndarray:
    """The 2^k × 2^k Walsh–Hadamard matrix: entry (i, j) is (-1)^(number of ones in i & j)."""
    H = np.ones((1, 1))
    for _ in range(k):
        H = np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), H)
    return H


def product_factors(x: Factors, y: Factors) -> Factors:
    """Factors of tensor(X, Y): ranks multiply."""
    return Factors(*(np.kron(p, q) for p, q in zip(x, y, strict=True)))


def transported(x: Factors, P: np.ndarray) -> Factors:
    """Factors of the algebra with basis e_i = sum_m P[i, m] f_m, from those in the basis f."""
    return Factors(x.a @ P.T, x.b @ P.T, x.c @ np.linalg.inv(P))


# ------------------------------------------------------------------------------------------- the small ones


def _real() -> Factors:
    one = np.ones((1, 1))
    return Factors(one, one, one)


def _split_complex() -> Factors:
    H = hadamard(1)
    return Factors(H / 2, H, H)  # R + R along the idempotents (1 ± j) / 2


def _complex() -> Factors:
    # Gauss: w0 x0, w1 x1 and (w0 + w1)(x0 + x1) hold both parts of the product
    s = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    return Factors(s, s, np.array([[1.0, -1.0], [-1.0, -1.0], [0.0, 1.0]]))


def _dual() -> Factors:
    # w0 x0, w0 x1, w1 x0: nothing to share, and nothing to mix
    return Factors(
        np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    )


def _quaternion() -> Factors:
    """Eight products: Howell and Lafon, *The complexity of the quaternion product*, 1975."""
    H, eye = hadamard(2), np.eye(4)
    a = np.concatenate([H / 4, eye])
    b = np.concatenate([H, eye[[0, 2, 3, 1]]])
    # y0 = -c0 + 2 w0 x0, y1 = c1 - 2 w3 x2, y2 = c2 - 2 w1 x3, y3 = c3 - 2 w2 x1
    a[4:] = eye[[0, 3, 1, 2]]
    c = np.concatenate([H * [-1, 1, 1, 1], np.diag([2.0, -2.0, -2.0, -2.0])])
    return Factors(a, b, c)


def _split_quaternion() -> Factors:
    """Seven products: Strassen, *Gaussian elimination is not optimal*, 1969, through 2×2 real matrices."""
    # rows: the seven products in the coordinates m11, m12, m21, m22
    left = [[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1]]
    right = [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
    out = [[1, 0, 0, 1], [0, 0, 1, -1], [0, 1, 0, 1], [1, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    matrices = Factors(*(np.array(m, dtype=float) for m in (left, right, out)))
    i, j = np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    P = np.array([np.eye(2).ravel(), i.ravel(), j.ravel(), (i @ j).ravel()])
    moved = transported(matrices, P)
    return Factors(moved.a / 2, moved.b, moved.c * 2)


_NAMED = {
    "real": _real,
    "complex": _complex,
    "split_complex": _split_complex,
    "dual": _dual,
    "quaternion": _quaternion,
    "split_quaternion": _split_quaternion,
}


def _named(found: Algebra) -> Factors | None:
    for name, make in _NAMED.items():
        if found == algebra(name):
            return make()
    return None


def _by_cyclic_convolution(found: Algebra) -> Factors | None:
    """R[x]/(x^n - 1) is a sum of fields, one for each pair of conjugate roots: 1 product for R, 3 for C."""
    n = found.n
    if n < 3 or found != cyclic(n):
        return None
    rows: list[np.ndarray] = []
    blocks: list[Factors] = []
    angle = 2 * np.pi * np.arange(n) / n
    for k in range(n // 2 + 1):
        cos, sin = np.cos(k * angle), np.sin(k * angle)
        if k in (0, n / 2):
            rows.append(cos[None])
            blocks.append(_real())
        else:
            rows.append(np.stack([cos, sin]))
            blocks.append(_complex())
    P = np.concatenate(rows).T
    return transported(_direct_sum(blocks), P)


def _direct_sum(parts: list[Factors]) -> Factors:
    def block_diagonal(matrices: list[np.ndarray]) -> np.ndarray:
        whole = np.zeros((sum(len(m) for m in matrices), sum(m.shape[1] for m in matrices)))
        row = col = 0
        for m in matrices:
            whole[row : row + len(m), col : col + m.shape[1]] = m
            row, col = row + len(m), col + m.shape[1]
        return whole

    return Factors(*(block_diagonal([part[i] for part in parts]) for i in range(3)))


# ---------------------------------------------------------------------- products, up to a signed permutation


def _by_isomorphism(found: Algebra) -> Factors | None:
    """Find the algebra among the tensor products of small ones, cheapest first, up to signs and order of basis."""
    n = found.n
    if not 4 <= n <= 32 or n & (n - 1) or not (found.associative and _monomial(found.constants)):
        return None
    for parts in _products(n.bit_length() - 1):
        whole, factors = algebra(parts[0]), _NAMED[parts[0]]()
        for part in parts[1:]:
            whole, factors = tensor(whole, algebra(part)), product_factors(factors, _NAMED[part]())
        P = _signed_isomorphism(found.constants, whole.constants)
        if P is not None:
            return transported(factors, P)
    return None


def _monomial(T: np.ndarray) -> bool:
    """Every product of two basis elements is zero, or plus or minus one basis element."""
    return bool(np.isin(T, (-1.0, 0.0, 1.0)).all() and (np.abs(T).sum(axis=2) <= 1).all())


def _products(log2n: int) -> list[tuple[str, ...]]:
    sizes = {"split_complex": 1, "complex": 1, "dual": 1, "split_quaternion": 2, "quaternion": 2}
    ranks = {name: _NAMED[name]().rank for name in sizes}
    found = [
        parts
        for count in range(1, log2n + 1)
        for parts in combinations_with_replacement(sizes, count)
        if sum(sizes[p] for p in parts) == log2n
    ]
    return sorted(found, key=lambda parts: float(np.prod([ranks[p] for p in parts])))


def _signed_isomorphism(T: np.ndarray, S: np.ndarray) -> np.ndarray | None:
    """P with e_i = sum_m P[i, m] f_m, each row one entry ±1, that carries the product S to T; None if none is."""
    n = len(T)
    if (np.abs(T).sum(axis=2) == 0).sum() != (np.abs(S).sum(axis=2) == 0).sum():
        return None
    for images in _extensions(T, S, {0: (0, 1.0)}):
        P = np.zeros((n, n))
        for i, (m, sign) in images.items():
            P[i, m] = sign
        if np.array_equal(np.einsum("im,jl,mls->ijs", P, P, S, optimize=True), T @ P):
            return P
    return None


_Images = dict[int, tuple[int, float]]


def _extensions(T: np.ndarray, S: np.ndarray, known: _Images) -> Iterator[_Images]:
    """All closed assignments of signed basis elements: the next element gets each image, products follow."""
    n = len(T)
    if len(known) == n:
        yield known
        return
    i = min(set(range(n)) - set(known))
    taken = {m for m, _ in known.values()}
    for m in range(n):
        if m not in taken and S[m, m, 0] == T[i, i, 0]:
            grown = _closed(T, S, {**known, i: (m, 1.0)})
            if grown is not None:
                yield from _extensions(T, S, grown)


def _closed(T: np.ndarray, S: np.ndarray, images: _Images) -> _Images | None:
    """``images`` with every product of two of them; None where two products disagree."""
    images, settled = dict(images), False
    while not settled:
        settled = True
        for i, j in product(list(images), repeat=2):
            (m, u), (o, v) = images[i], images[j]
            k, s = int(np.abs(T[i, j]).argmax()), int(np.abs(S[m, o]).argmax())
            if (T[i, j, k] == 0) != (S[m, o, s] == 0):
                return None
            if T[i, j, k] == 0:
                continue
            image = (s, float(u * v * S[m, o, s] * T[i, j, k]))
            if k not in images:
                images[k], settled = image, False
            elif images[k] != image:
                return None
    return images if len({m for m, _ in images.values()}) == len(images) else None


# -------------------------------------------------------------------------------------------- sign corrections


def _by_sign_corrections(found: Algebra) -> Factors | None:
    """n products of the Walsh–Hadamard transform, and one more for each sign that they get wrong.

    For T[i, j, i xor j] = s(i, j) and signs u, v, t: T = u v t (group algebra) - 2 (entries with the wrong sign).
    The quaternion algorithm with four corrections is the smallest case.
    """
    n = found.n
    i, j = np.indices((n, n))
    s = found.constants[i, j, i ^ j] if n & (n - 1) == 0 else np.zeros(1)
    if not (np.abs(s) == 1).all() or np.abs(found.constants).sum() != n * n:
        return None
    u, v, t = _best_signs(s)
    wrong = np.argwhere(s != u[:, None] * v[None] * t[i ^ j])
    H, eye = hadamard(n.bit_length() - 1), np.eye(n)
    p, q = wrong.T
    return Factors(
        np.concatenate([H * u / n, eye[p]]),
        np.concatenate([H * v, eye[q]]),
        np.concatenate([H * t, 2 * s[p, q][:, None] * eye[p ^ q]]),
    )


def _best_signs(s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs u, v, t that make u[i] v[j] t[i xor j] agree with s most often, by majority votes from many starts."""
    n = len(s)
    i, j = np.indices((n, n))
    rng = np.random.default_rng(0)
    starts = 4096
    u = rng.choice([-1.0, 1.0], (starts, n))
    t = rng.choice([-1.0, 1.0], (starts, n))
    v = np.ones((starts, n))
    # with k = i xor j: as s[i, j], as s[i, i ^ k] and as s[k ^ j, j], each unknown is the majority over one axis
    by_row, by_product = s[i, i ^ j], s[i ^ j, j]
    for _ in range(20):
        v = _majority(np.einsum("ij,zi,zij->zj", s, u, t[:, i ^ j]), v)
        u = _majority(np.einsum("ik,zik,zk->zi", by_row, v[:, i ^ j], t), u)
        t = _majority(np.einsum("kj,zkj,zj->zk", by_product, u[:, i ^ j], v), t)
    agreement = np.einsum("ij,zi,zj,zij->z", s, u, v, t[:, i ^ j], optimize=True)
    best = int(agreement.argmax())
    return u[best], v[best], t[best]


def _majority(votes: np.ndarray, undecided: np.ndarray) -> np.ndarray:
    return np.where(votes == 0, undecided, np.sign(votes))


def _by_null_generator(found: Algebra) -> Factors | None:
    """Cl(p, q, r + 1) from Cl(p, q, r): (a + b e)(c + d e) = ac + (ad + b c^) e, with ^ the grade involution."""
    d = found.n.bit_length() - 1
    for r in range(1, d + 1):
        for p in range(d - r + 1):
            if found.n == 1 << d and found == clifford(p, d - r - p, r):
                return _null_extension(d, p, r)
    return None


def _null_extension(d: int, p: int, r: int) -> Factors | None:
    smaller = exact_factors(clifford(p, d - r - p, r - 1))
    if smaller is None:
        return None
    # blades ordered by grade, then lexically; the null generator e has the largest index, so b e needs no sign
    blades = _blades(d)
    without = [blades.index(blade) for blade in _blades(d - 1)]
    with_e = [blades.index((*blade, d - 1)) for blade in _blades(d - 1)]
    grade = np.array([(-1.0) ** len(blade) for blade in _blades(d - 1)])

    def spread(rows: np.ndarray, where: list[int]) -> np.ndarray:
        wide = np.zeros((len(rows), 1 << d))
        wide[:, where] = rows
        return wide

    a, b, c = smaller
    low, high = without, with_e
    return Factors(
        np.concatenate([spread(a, low), spread(a, low), spread(a, high)]),
        np.concatenate([spread(b, low), spread(b, high), spread(b * grade, low)]),
        np.concatenate([spread(c, low), spread(c, high), spread(c, high)]),
    )


def _blades(d: int) -> list[tuple[int, ...]]:
    return [blade for grade in range(d + 1) for blade in combinations(range(d), grade)]
