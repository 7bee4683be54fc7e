"""Algebras: the multiplication rules that give every layer its meaning.

An algebra of dimension n is its structure constants T, with e_i e_j = sum_k T[i, j, k] e_k and e_0 = 1.
This module knows numbers and names only: no torch, no layer, no path, so that a sweep can be planned without them.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

_EXACT = 1e-12  # structure constants are small integers: anything above this is a different algebra


@dataclass(frozen=True, eq=False, repr=False)
class Algebra:
    """An n-dimensional real algebra, or the learned rule ``ph`` whose constants are a layer's parameter.

    e_i e_j = sum_k T[i, j, k] e_k, with T of shape (n, n, n), float64, read-only; T is None for a learned rule.
    Two algebras are equal when their constants are, whatever their names. learned: the rule is a parameter (``ph``).
    """

    name: str
    n: int
    T: np.ndarray | None = field(default=None)
    # no property that looks at T: a compiled layer would guard the array at every call, and fail in inference mode
    learned: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "learned", self.T is None)
        object.__setattr__(self, "n", _integer(self.n))
        if self.n < 1:
            raise ValueError(f"an algebra has at least one dimension, not n={self.n}")
        if self.T is None:
            return
        T = np.array(self.T, dtype=np.float64)
        if T.shape != (self.n,) * 3:
            raise ValueError(f"algebra {self.name!r}: T has shape {T.shape}, n={self.n} needs {(self.n,) * 3}")
        T.flags.writeable = False
        object.__setattr__(self, "T", T)

    @property
    def constants(self) -> np.ndarray:
        """T, or a ValueError for a learned rule, which has none of its own."""
        if self.T is None:
            raise ValueError(f"{self!r} is learned: its structure constants are the parameter A of each layer")
        return self.T

    @cached_property
    def rule(self) -> np.ndarray:
        """A of shape (n, n, n) with A_i[k, j] = T[i, j, k]: the left product w*x as n matrices."""
        return np.ascontiguousarray(self.constants.transpose(0, 2, 1))

    @property
    def opposite(self) -> Algebra:
        """The algebra whose left product is this one's right product: x*w instead of w*x (to port weights)."""
        return Algebra(f"opposite({self.name})", self.n, self.constants.transpose(1, 0, 2))

    def multiply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The product x*y over the last axis, of length n."""
        return np.einsum("...i,...j,ijk->...k", x, y, self.constants)

    @cached_property
    def unital(self) -> bool:
        """e_0 x = x e_0 = x."""
        eye = np.eye(self.n)
        return _same(self.constants[0], eye) and _same(self.constants[:, 0], eye)

    @cached_property
    def commutative(self) -> bool:
        """xy = yx."""
        return _same(self.constants, self.constants.transpose(1, 0, 2))

    @cached_property
    def _associator(self) -> np.ndarray:
        """(e_a e_b) e_c - e_a (e_b e_c), of shape (n, n, n, n)."""
        T = self.constants
        return np.einsum("abm,mck->abck", T, T) - np.einsum("bcm,amk->abck", T, T)

    @cached_property
    def associative(self) -> bool:
        """(xy)z = x(yz)."""
        return _same(self._associator, 0.0)

    @cached_property
    def alternative(self) -> bool:
        """(xx)y = x(xy) and (yx)x = y(xx): the associator alternates."""
        a = self._associator
        return _same(a, -a.transpose(1, 0, 2, 3)) and _same(a, -a.transpose(0, 2, 1, 3))

    @cached_property
    def norm_multiplicative(self) -> bool:
        """|xy| = |x||y| in the Euclidean norm of the coordinates."""
        gram = np.einsum("ijk,lmk->iljm", self.constants, self.constants)
        symmetric = gram + gram.transpose(1, 0, 2, 3)
        eye = np.eye(self.n)
        return _same(symmetric + symmetric.transpose(0, 1, 3, 2), 4 * np.einsum("il,jm->iljm", eye, eye))

    @cached_property
    def signed_permutation(self) -> bool:
        """Every A_i is a signed permutation matrix: e_i e_j = ±e_k, and any two of i, j, k tell the third."""
        T = self.constants
        return bool(np.isin(T, (-1.0, 0.0, 1.0)).all() and all((np.abs(T).sum(axis=d) == 1).all() for d in range(3)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Algebra, (self.name, self.n, self.T)  # through the constructor, which makes T read-only again

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Algebra) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, bytes | None]:
        # + 0.0 turns -0.0 into 0.0, which compare equal but differ in their bytes
        return self.n, None if self.T is None else (self.T + 0.0).tobytes()

    def __repr__(self) -> str:
        return f"Algebra({self.name!r}, n={self.n}{', learned' if self.learned else ''})"

    def __str__(self) -> str:
        """The multiplication table, for people."""
        if self.T is None:
            return repr(self)
        cells = [[_linear_combination(self.T[i, j]) for j in range(self.n)] for i in range(self.n)]
        width = max(len(cell) for row in cells for cell in row)
        return "\n".join([repr(self), *("  ".join(cell.rjust(width) for cell in row) for row in cells)])


def _integer(n: Any) -> int:
    """n, if it counts; a TypeError for 4.0 and "4", which would pass for numbers until much later."""
    try:
        return operator.index(n)
    except TypeError:
        raise TypeError(f"the dimension n is an integer, not {n!r}") from None


def _same(a: np.ndarray, b: np.ndarray | float) -> bool:
    return bool(np.abs(a - b).max() <= _EXACT)


def _linear_combination(coefficients: np.ndarray) -> str:
    terms = [(c, "1" if k == 0 else f"e{k}") for k, c in enumerate(coefficients) if c != 0]
    text = "".join(f"{'-' if c < 0 else '+'}{'' if abs(c) == 1 else f'{abs(c):g}'}{e}" for c, e in terms)
    return text.removeprefix("+") or "0"


# ----------------------------------------------------------------------------------------------- generators


def from_table(name: str, table: Sequence[Sequence[str]]) -> Algebra:
    """An algebra from its multiplication table, written with 1, e1, e2, …, a sign, and 0.

    Example: ``from_table("complex", [["1", "e1"], ["e1", "-1"]])``.
    """
    n = len(table)
    T = np.zeros((n, n, n))
    for i, row in enumerate(table):
        if len(row) != n:
            raise ValueError(f"table of {name!r}: row {i} has {len(row)} entries, {n} rows need {n}")
        for j, entry in enumerate(row):
            match = re.fullmatch(r"([+-]?)(?:(0)|(1)|e(\d+))", entry.strip())
            if not match or (match[4] and int(match[4]) >= n):
                raise ValueError(f"table of {name!r}: entry {entry!r} at ({i}, {j}) is none of 0, 1, e1 … e{n - 1}")
            if not match[2]:
                T[i, j, int(match[4] or 0)] = -1.0 if match[1] == "-" else 1.0
    return Algebra(name, n, T)


def cayley_dickson(base: Algebra, gamma: float = -1.0, name: str | None = None) -> Algebra:
    """Double an algebra: (a,b)(c,d) = (ac + gamma d*b, da + bc*), with * the conjugation of ``base``.

    gamma -1 gives complex, quaternion, octonion, sedenion, …; +1 their split forms; 0 a dual form.
    Source: Schafer, *An Introduction to Nonassociative Algebras*, 1966, ch. III.4.
    """
    n, T = base.n, base.constants
    conj = np.diag([1.0] + [-1.0] * (n - 1))
    D = np.zeros((2 * n, 2 * n, 2 * n))
    D[:n, :n, :n] = T  # a c
    D[n:, n:, :n] = gamma * np.einsum("dp,pbk->bdk", conj, T)  # d* b
    D[:n, n:, n:] = np.einsum("dak->adk", T)  # d a
    D[n:, :n, n:] = np.einsum("cp,bpk->bck", conj, T)  # b c*
    return Algebra(name or f"cayley_dickson({base.name},{gamma:g})", 2 * n, D)


def clifford(p: int, q: int = 0, r: int = 0, name: str | None = None) -> Algebra:
    """Cl(p, q, r): p generators square to +1, q to -1, r to 0; blades ordered by grade, then lexically.

    Source: Lounesto, *Clifford Algebras and Spinors*, 2001.
    """
    if min(p, q, r) < 0 or p + q + r > 6:
        raise ValueError(f"clifford({p},{q},{r}): p, q and r count generators, at most 6 in all")
    squares = [1.0] * p + [-1.0] * q + [0.0] * r
    d = len(squares)
    blades = [blade for grade in range(d + 1) for blade in combinations(range(d), grade)]
    index = {blade: k for k, blade in enumerate(blades)}
    n = len(blades)
    T = np.zeros((n, n, n))
    for i, a in enumerate(blades):
        for j, b in enumerate(blades):
            # moving each generator of b into place past the larger ones of a costs one sign each
            swaps = sum(x > y for y in b for x in a)
            sign = (-1.0) ** swaps * float(np.prod([squares[g] for g in set(a) & set(b)] or [1.0]))
            T[i, j, index[tuple(sorted(set(a) ^ set(b)))]] = sign
    return Algebra(name or f"clifford({p},{q},{r})", n, T)


def group_algebra(name: str, table: Sequence[Sequence[int]]) -> Algebra:
    """The real algebra of a finite group, from its Cayley table of indices; element 0 is the identity.

    Raises ValueError for a table that is no Latin square, has another identity, or is not associative.
    """
    cayley = np.array(table)
    n = len(cayley)
    rows = [sorted(row) for row in cayley.tolist()] + [sorted(col) for col in cayley.T.tolist()]
    if cayley.shape != (n, n) or any(row != list(range(n)) for row in rows):
        raise ValueError(f"group {name!r}: the Cayley table is no {n}×{n} Latin square of 0 … {n - 1}")
    if cayley[0].tolist() != list(range(n)) or cayley[:, 0].tolist() != list(range(n)):
        raise ValueError(f"group {name!r}: element 0 of the Cayley table is not the identity")
    if (cayley[cayley] != cayley[:, cayley]).any():  # (i j) k and i (j k)
        raise ValueError(f"group {name!r}: the Cayley table is not associative")
    return Algebra(name, n, np.eye(n)[cayley])


def cyclic(n: int) -> Algebra:
    """The group algebra of Z/n: e_i e_j = e_(i+j mod n), so W is block-circulant."""
    return group_algebra(f"cyclic({n})", [[(i + j) % n for j in range(n)] for i in range(n)])


def tensor(a: Algebra, b: Algebra, name: str | None = None) -> Algebra:
    """The tensor product: (a1 b1)(a2 b2) = (a1 a2)(b1 b2), with basis element i*b.n + j for a_i b_j."""
    n = a.n * b.n
    T = np.einsum("ijk,pqr->ipjqkr", a.constants, b.constants).reshape(n, n, n)
    return Algebra(name or f"tensor({a.name},{b.name})", n, T)


# ------------------------------------------------------------------------------------------------ named zoo


def _real() -> Algebra:
    return Algebra("real", 1, np.ones((1, 1, 1)))


def _complex() -> Algebra:
    return cayley_dickson(_real(), name="complex")


def _quaternion() -> Algebra:
    return cayley_dickson(_complex(), name="quaternion")


def _octonion() -> Algebra:
    return cayley_dickson(_quaternion(), name="octonion")


def _dual() -> Algebra:
    return cayley_dickson(_real(), 0.0, name="dual")


_NAMED: dict[str, Callable[[], Algebra]] = {
    "real": _real,
    "complex": _complex,
    "split_complex": lambda: cayley_dickson(_real(), +1.0, name="split_complex"),
    "dual": _dual,
    "quaternion": _quaternion,
    "split_quaternion": lambda: cayley_dickson(_complex(), +1.0, name="split_quaternion"),
    "tessarine": lambda: tensor(cayley_dickson(_real(), +1.0), _complex(), name="tessarine"),
    "klein4": lambda: group_algebra("klein4", [[i ^ j for j in range(4)] for i in range(4)]),
    "octonion": _octonion,
    "split_octonion": lambda: cayley_dickson(_quaternion(), +1.0, name="split_octonion"),
    "dual_quaternion": lambda: tensor(_dual(), _quaternion(), name="dual_quaternion"),
    "biquaternion": lambda: tensor(_complex(), _quaternion(), name="biquaternion"),
    "sedenion": lambda: cayley_dickson(_octonion(), name="sedenion"),
}

_FAMILIES: dict[str, Callable[..., Algebra]] = {"cyclic": cyclic, "clifford": clifford}

# other names of one algebra; a basis that differs is the same layer up to a fixed mixing of channels
_ALIASES = {
    "bicomplex": "tessarine",
    "coquaternion": "split_quaternion",
    "dihedron": "split_quaternion",
    "hyperbolic": "split_complex",
    "hamilton": "quaternion",
    "circulant": "cyclic",
    "phm": "ph",
    "cl": "clifford",
}


def list_algebras() -> list[str]:
    """The names that ``algebra`` takes: fixed algebras, families with their arguments, and the learned ``ph``."""
    return [*_NAMED, "cyclic(n)", "clifford(p,q,r)", "ph"]


def aliases() -> dict[str, str]:
    """Other names, each with the one that it stands for."""
    return dict(_ALIASES)


def algebra(name: str | Algebra, n: int | None = None) -> Algebra:
    """The algebra called ``name``: ``"quaternion"``, ``"clifford(3,0,1)"``, ``"cyclic(3)"``, ``"ph"`` with n.

    n is needed by ``ph`` alone; given for a fixed algebra it must be that algebra's dimension.
    Raises ValueError for an unknown name (with near matches) and for a wrong or missing n, TypeError for what is
    neither name nor Algebra, and for an n that is no integer.
    """
    if not isinstance(name, str | Algebra):
        raise TypeError(f"algebra is a name or an Algebra, not {name!r}")
    n = n if n is None else _integer(n)
    found = name if isinstance(name, Algebra) else _lookup(name, n)
    if n is not None and found.n != n:
        raise ValueError(f"algebra {found.name!r} has n={found.n}, not n={n}: leave n out or choose 'ph'")
    return found


def _lookup(name: str, n: int | None) -> Algebra:
    match = re.fullmatch(r"\s*([A-Za-z_]\w*?)\s*(?:\(([\d\s,]*)\))?\s*", name)
    if not match:
        raise ValueError(f"unknown algebra {name!r}: choose one of {', '.join(list_algebras())}")
    key = _ALIASES.get(match[1].lower(), match[1].lower())
    if key == "ph":
        given = n if match[2] is None else match[2].strip()
        if given is None:
            raise ValueError("algebra 'ph' learns its rule and needs its dimension: give n=, for example n=4")
        if not str(given).lstrip("-").isdigit():
            raise ValueError(f"algebra {name!r}: 'ph' has one argument, its dimension, as in ph(4)")
        return Algebra("ph", int(given))
    if key in _FAMILIES:
        try:
            # the dimension tells a cyclic algebra, but not a Clifford algebra's signature
            default = [] if n is None or key == "clifford" else [n]
            arguments = default if match[2] is None else [int(a) for a in match[2].split(",")]
            return _FAMILIES[key](*arguments)
        except (TypeError, ValueError) as error:
            if "literal" not in str(error) and isinstance(error, ValueError):
                raise
            form = next(form for form in list_algebras() if form.startswith(key))
            raise ValueError(f"algebra {name!r}: write its arguments, as in {form}") from None
    if key not in _NAMED or match[2] is not None:
        raise ValueError(f"unknown algebra {name!r}{near_matches(key, [*_NAMED, *_FAMILIES, *_ALIASES, 'ph'])}")
    return _NAMED[key]()


def near_matches(name: str, known: Sequence[str]) -> str:
    """The end of an error sentence: what the caller may have meant, or all that there is."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f": did you mean {' or '.join(close)}?" if close else f": choose one of {', '.join(known)}"


def iter_named() -> Iterator[Algebra]:
    """Every fixed algebra with a name of its own (families not expanded)."""
    return (build() for build in _NAMED.values())
