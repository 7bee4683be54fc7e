"""The algebras: their tables, their laws, their names."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import phnn
from phnn.algebras import (
    Algebra,
    algebra,
    aliases,
    cayley_dickson,
    clifford,
    cyclic,
    from_table,
    group_algebra,
    iter_named,
    list_algebras,
    tensor,
)

# name: n, commutative, associative, alternative, norm-multiplicative (FACTS: Euclidean norm, not a split one)
LAWS = {
    "real": (1, True, True, True, True),
    "complex": (2, True, True, True, True),
    "split_complex": (2, True, True, True, False),
    "dual": (2, True, True, True, False),
    "cyclic(3)": (3, True, True, True, False),
    "quaternion": (4, False, True, True, True),
    "split_quaternion": (4, False, True, True, False),
    "tessarine": (4, True, True, True, False),
    "klein4": (4, True, True, True, False),
    "octonion": (8, False, False, True, True),
    "split_octonion": (8, False, False, True, False),
    "dual_quaternion": (8, False, True, True, False),
    "biquaternion": (8, False, True, True, False),
    "clifford(0,3)": (8, False, True, True, False),
    "clifford(2,1)": (8, False, True, True, False),
    "clifford(1,2)": (8, False, True, True, False),
    "sedenion": (16, False, False, False, False),
    "clifford(4,0)": (16, False, True, True, False),
    "clifford(3,0,1)": (16, False, True, True, False),
}

coordinates = st.floats(-8, 8, allow_nan=False, width=32)


def vectors(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, n, elements=coordinates)


@pytest.mark.parametrize("name", LAWS)
def test_an_algebra_has_the_laws_that_the_textbooks_give_it(name: str) -> None:
    found = algebra(name)
    laws = (found.n, found.commutative, found.associative, found.alternative, found.norm_multiplicative)
    assert laws == LAWS[name]
    assert found.unital


@pytest.mark.parametrize("name", LAWS)
def test_a_law_that_an_algebra_is_said_to_have_or_lack_shows_on_random_elements(name: str) -> None:
    a, rng = algebra(name), np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 20, a.n))
    m = a.multiply

    def same(u: np.ndarray, v: np.ndarray) -> bool:
        return bool(np.allclose(u, v, atol=1e-10))

    assert same(m(x, y), m(y, x)) == a.commutative
    assert same(m(m(x, y), z), m(x, m(y, z))) == a.associative
    assert (same(m(m(x, x), y), m(x, m(x, y))) and same(m(m(y, x), x), m(y, m(x, x)))) == a.alternative
    norms = [np.linalg.norm(v, axis=-1) for v in (m(x, y), x, y)]
    assert same(norms[0], norms[1] * norms[2]) == a.norm_multiplicative
    one = np.eye(a.n)[0]
    assert same(m(one, x), x)
    assert same(m(x, one), x)


def test_quaternion_multiplication_is_hamiltons() -> None:
    H = algebra("quaternion")
    one, i, j, k = np.eye(4)
    for square in (i, j, k):
        np.testing.assert_array_equal(H.multiply(square, square), -one)
    np.testing.assert_array_equal(H.multiply(i, j), k)
    np.testing.assert_array_equal(H.multiply(j, i), -k)
    np.testing.assert_array_equal(H.multiply(j, k), i)
    np.testing.assert_array_equal(H.multiply(k, i), j)


@pytest.mark.parametrize(
    ("name", "squares", "ij"),
    [("split_quaternion", (-1, 1, 1), 3), ("tessarine", (-1, 1, -1), 3), ("klein4", (1, 1, 1), 3)],
)
def test_four_dimensional_bases_square_to_the_signs_of_their_definition(
    name: str, squares: tuple[int, ...], ij: int
) -> None:
    a, basis = algebra(name), np.eye(4)
    for e, sign in zip(basis[1:], squares, strict=True):
        np.testing.assert_array_equal(a.multiply(e, e), sign * basis[0])
    np.testing.assert_array_equal(a.multiply(basis[1], basis[2]), basis[ij])


def test_an_algebra_that_is_alternative_on_one_side_alone_is_not_alternative() -> None:
    """e0 e0 = e0 and either e0 e1 = e1, e1 e0 = e2 (left alternative) or the other way round (right alternative)."""
    T = np.zeros((3, 3, 3))
    T[0, 0, 0] = T[0, 1, 1] = T[1, 0, 2] = 1
    left = Algebra("left", 3, T)
    x, y = np.random.default_rng(0).normal(size=(2, 3))
    m = left.multiply
    np.testing.assert_allclose(m(m(x, x), y), m(x, m(x, y)), atol=1e-12)
    assert not np.allclose(m(m(y, x), x), m(y, m(x, x)))
    assert not left.alternative
    assert not left.opposite.alternative
    assert not left.unital


def test_the_rule_is_the_matrix_of_the_left_product() -> None:
    a = algebra("octonion")
    w, x = np.random.default_rng(0).normal(size=(2, 8))
    np.testing.assert_allclose(np.einsum("i,ikj,j->k", w, a.rule, x), a.multiply(w, x), atol=1e-12)
    np.testing.assert_allclose(a.opposite.multiply(w, x), a.multiply(x, w), atol=1e-12)


def test_clifford_0_2_is_the_quaternions() -> None:
    assert clifford(0, 2) == algebra("quaternion")
    assert hash(clifford(0, 2)) == hash(algebra("quaternion"))
    assert clifford(0, 1) == algebra("complex")
    assert clifford(1) == algebra("split_complex") == cyclic(2)
    assert clifford(0, 0, 1) == algebra("dual")


def test_clifford_generators_square_and_anticommute() -> None:
    a, basis = clifford(2, 1, 1), np.eye(16)
    signs = (1, 1, -1, 0)
    for p in range(4):
        for q in range(4):
            both = a.multiply(basis[1 + p], basis[1 + q]) + a.multiply(basis[1 + q], basis[1 + p])
            np.testing.assert_array_equal(both, 2 * signs[p] * (p == q) * basis[0])


def test_clifford_0_3_is_not_the_octonions() -> None:
    assert clifford(0, 3).associative
    assert not algebra("octonion").associative


@given(vectors(8), vectors(8))
@settings(deadline=None, max_examples=50)
def test_octonions_are_alternative_and_norm_multiplicative(x: np.ndarray, y: np.ndarray) -> None:
    m = algebra("octonion").multiply
    np.testing.assert_allclose(m(m(x, x), y), m(x, m(x, y)), atol=1e-9)
    np.testing.assert_allclose(m(m(y, x), x), m(y, m(x, x)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(m(x, y)), np.linalg.norm(x) * np.linalg.norm(y), atol=1e-9)


def test_octonions_are_not_associative() -> None:
    m, e = algebra("octonion").multiply, np.eye(8)
    np.testing.assert_array_equal(m(m(e[1], e[2]), e[4]), -m(e[1], m(e[2], e[4])))


def test_sedenions_have_zero_divisors_and_are_not_alternative() -> None:
    S, e = algebra("sedenion"), np.eye(16)
    divisors = [
        (e[a] + e[b], e[c] + s * e[d])
        for a in range(1, 8)
        for b in range(9, 16)
        for c in range(1, 8)
        for d in range(9, 16)
        for s in (1, -1)
        if not S.multiply(e[a] + e[b], e[c] + s * e[d]).any()
    ]
    assert divisors
    assert [S.alternative, S.associative, S.norm_multiplicative] == [False] * 3


@given(vectors(4), vectors(4), vectors(4))
@settings(deadline=None, max_examples=50)
def test_clifford_0_2_multiplies_as_quaternions_do(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    m = clifford(0, 2).multiply
    vector = x[0] * y[1:] + y[0] * x[1:] + np.cross(x[1:], y[1:])
    expected = np.concatenate([[x[0] * y[0] - x[1:] @ y[1:]], vector])
    np.testing.assert_allclose(m(x, y), expected, atol=1e-10)
    np.testing.assert_allclose(m(m(x, y), z), m(x, m(y, z)), atol=1e-8)


def test_generators_agree_where_they_make_the_same_algebra() -> None:
    complex_ = from_table("C", [["1", "e1"], ["e1", "-1"]])
    assert complex_ == algebra("complex") == cayley_dickson(algebra("real"))
    assert tensor(algebra("real"), complex_) == complex_
    assert tensor(cyclic(2), cyclic(2)) == algebra("klein4")
    assert group_algebra("Z3", [[0, 1, 2], [1, 2, 0], [2, 0, 1]]) == cyclic(3)
    assert cayley_dickson(algebra("quaternion"), +1.0) == algebra("split_octonion")


def test_split_quaternions_are_the_matrices_of_two_dimensions() -> None:
    basis = [np.eye(2), [[0, 1], [-1, 0]], [[0, 1], [1, 0]], [[1, 0], [0, -1]]]  # 1, i, j, k = ij
    a, rng = algebra("split_quaternion"), np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4))

    def matrix(v: np.ndarray) -> np.ndarray:
        return np.einsum("i,ipq->pq", v, np.array(basis, float))

    np.testing.assert_allclose(matrix(a.multiply(x, y)), matrix(x) @ matrix(y), atol=1e-12)


def test_aliases_lead_to_the_algebra_that_they_stand_for() -> None:
    arguments = {"ph": ("", 4), "cyclic": ("(4)", None), "clifford": ("(0,2)", None)}
    for alias, name in aliases().items():
        suffix, n = arguments.get(name, ("", None))
        assert algebra(alias + suffix, n) == algebra(name + suffix, n)


@pytest.mark.parametrize("name", ["Quaternion", "CL(0,2)", "clifford( 0, 2 )", " hamilton "])
def test_case_and_blanks_do_not_matter_in_names(name: str) -> None:
    assert algebra(name) == algebra("quaternion")


def test_all_listed_algebras_can_be_had() -> None:
    listed = list_algebras()
    assert {a.name for a in iter_named()} < set(listed)
    for name in listed:
        name = name.replace("(n)", "(5)").replace("(p,q,r)", "(1,1,0)")
        assert algebra(name, 3 if name == "ph" else None).n >= 1
    assert phnn.list_algebras() == listed


@pytest.mark.parametrize(
    ("name", "n", "message"),
    [
        ("quaternoin", None, "did you mean quaternion"),
        ("octonoin", None, "octonion"),
        ("quaternion", 8, "n=4, not n=8"),
        ("ph", None, "give n="),
        ("clifford", None, r"clifford\(p,q,r\)"),
        ("cyclic", None, r"cyclic\(n\)"),
        ("quaternion(4)", None, "unknown algebra"),
        ("xyz", None, "choose one of"),
        ("?", None, "choose one of"),
        ("clifford(9,9,9)", None, "at most 6"),
        ("cyclic(0)", None, "Latin square"),
        ("ph", 0, "at least one dimension"),
        ("ph(4)", 2, "n=4, not n=2"),
        ("ph(1,2)", None, "one argument"),
        ("clifford(2,,1)", None, r"clifford\(p,q,r\)"),
        ("clifford", 3, r"clifford\(p,q,r\)"),
    ],
)
def test_a_wrong_name_or_n_is_refused_with_what_to_write_instead(name: str, n: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        algebra(name, n)


@pytest.mark.parametrize(("name", "n"), [("quaternion", 4.0), ("ph", "4"), (None, None), (4, None)])
def test_what_is_no_name_or_no_integer_is_a_type_error(name: object, n: object) -> None:
    with pytest.raises(TypeError, match="integer|name or an Algebra"):
        algebra(name, n)  # type: ignore[arg-type]


def test_the_dimension_may_stand_in_the_name_of_a_learned_or_cyclic_algebra() -> None:
    assert algebra("ph(4)") == algebra("ph", 4)
    assert algebra("cyclic", 5) == algebra("cyclic(5)")
    assert algebra("ph", np.int64(4)).n == 4


def test_tables_with_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="needs"):
        Algebra("odd", 2, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="Latin square"):
        group_algebra("odd", [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="identity"):
        group_algebra("odd", [[1, 0], [0, 1]])
    loop = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    with pytest.raises(ValueError, match="associative"):
        group_algebra("odd", loop)
    with pytest.raises(ValueError, match="entries"):
        from_table("odd", [["1"], ["1", "1"]])
    with pytest.raises(ValueError, match="e7"):
        from_table("odd", [["1", "e7"], ["e1", "1"]])


def test_an_algebra_is_a_value() -> None:
    H = algebra("quaternion")
    for twin in (copy.deepcopy(H), pickle.loads(pickle.dumps(H))):
        assert twin == H
        assert hash(twin) == hash(H)
        with pytest.raises(ValueError, match="read-only"):
            twin.T[0, 0, 0] = 5  # type: ignore[index]
    assert algebra("ph", 4) != H
    assert algebra("ph", 4) != algebra("ph", 2)
    assert "-1" in str(H)
    assert repr(H) == "Algebra('quaternion', n=4)"
    assert repr(algebra("ph", 3)) == "Algebra('ph', n=3, learned)"


def test_signed_permutation_algebras_cover_every_block_once() -> None:
    for name in LAWS:
        a = algebra(name)
        assert a.signed_permutation == bool((np.square(a.rule).sum(axis=0) == 1).all()), name
    assert algebra("quaternion").signed_permutation
    assert not algebra("dual").signed_permutation
    folded = from_table("folded", [["1", "e1", "e2"], ["e1", "1", "1"], ["e2", "1", "1"]])
    assert not folded.signed_permutation


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys, phnn, phnn.algebras, phnn.registry\n"
        "phnn.list_algebras(); phnn.list_layers(); phnn.list_models(); phnn.algebra('octonion').alternative\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_loaded() -> None:
    for name in phnn.__all__:
        assert getattr(phnn, name) is not None
    assert set(phnn.__all__) <= set(dir(phnn))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = phnn.PHNothing
