"""Bilinear decompositions: exact ones rebuild their algebra, found ones say how well they do."""

from __future__ import annotations

import numpy as np
import pytest

from phnn.algebras import algebra, clifford, iter_named
from phnn.rank import cache_folder, decompose, generic_rank

RANKS = {
    "real": 1,
    "complex": 3,
    "split_complex": 2,
    "dual": 3,
    "cyclic(3)": 4,
    "cyclic(4)": 5,
    "klein4": 4,
    "tessarine": 6,
    "split_quaternion": 7,
    "quaternion": 8,
    "octonion": 30,
    "split_octonion": 28,
    "dual_quaternion": 24,
    "biquaternion": 21,
    "clifford(0,3)": 16,
    "clifford(2,1)": 14,
    "clifford(3,0)": 21,
    "clifford(2,2)": 49,
    "clifford(3,0,1)": 63,
    "sedenion": 108,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def learned(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n, n)) / n**0.5


@pytest.mark.parametrize(("name", "rank"), RANKS.items())
def test_a_named_algebra_is_rebuilt_exactly_in_its_known_rank(name, rank):
    found = decompose(name)
    assert found.rank == rank
    assert np.abs(found.rebuilt() - algebra(name).constants).max() <= 1e-12
    assert found.residual <= 1e-15


def test_every_named_algebra_has_an_exact_decomposition_below_n_squared():
    for named in iter_named():
        found = decompose(named)
        assert found.residual <= 1e-15
        assert found.rank < named.n**2 or named.n <= 2


@pytest.mark.parametrize("signature", [(0, 3), (1, 2), (2, 1), (3, 0), (1, 1, 1), (3, 1), (2, 0, 2)])
def test_clifford_algebras_decompose_into_products_of_small_ones(signature):
    found = decompose(clifford(*signature))
    assert np.array_equal(found.rebuilt(), clifford(*signature).constants)
    assert found.rank <= 0.45 * found.n**2


def test_the_product_follows_from_the_factors():
    found = decompose("quaternion")
    w, x = np.random.default_rng(0).normal(size=(2, 4))
    y = ((found.a @ w) * (found.b @ x)) @ found.c
    assert np.allclose(y, algebra("quaternion").multiply(w, x), atol=1e-14)


def test_input_and_output_mixing_of_the_quaternions_needs_no_fractions():
    found = decompose("quaternion")
    assert np.isin(found.b, (-1, 0, 1)).all()
    assert np.isin(found.c, (-2, -1, 0, 1, 2)).all()


@pytest.mark.parametrize(("n", "rank"), [(2, 3), (3, 5), (4, 7), (8, 24)])
def test_a_learned_rule_is_found_in_the_generic_rank(n, rank):
    found = decompose(learned(n))
    assert found.rank <= rank
    assert found.residual <= 1e-11
    assert found.max_coefficient <= 10
    assert found.condition <= 100


def test_octonions_are_found_numerically_in_26_products():
    found = decompose("octonion", rank=26)
    assert found.rank == 26
    assert found.residual <= 1e-11


def test_a_rank_that_is_too_small_states_its_residual():
    found = decompose(learned(4), rank=4)
    T = learned(4)
    assert found.residual == pytest.approx(np.linalg.norm(found.rebuilt() - T) / np.linalg.norm(T))
    assert found.residual > 1e-3


def test_the_search_is_deterministic_and_ignores_the_scale_of_the_tensor(tmp_path, monkeypatch):
    first = decompose(learned(3))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    again = decompose(learned(3))
    assert np.array_equal(first.a, again.a)
    scaled = decompose(1e-6 * learned(3))
    assert scaled.residual <= 1e-11


def test_a_found_decomposition_is_read_from_the_cache(monkeypatch):
    first = decompose(learned(4))

    def never(*_args, **_kwargs):
        raise AssertionError("searched again")

    monkeypatch.setattr("phnn.rank.search", never)
    assert np.array_equal(decompose(learned(4)).a, first.a)
    with pytest.raises(AssertionError, match="searched again"):
        decompose(learned(4, seed=1))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_file_is_healed(damage):
    first = decompose(learned(4))
    (file,) = cache_folder().rglob("*.npz")
    whole = file.read_bytes()
    if damage is None:  # a sound file with the wrong content
        np.savez(file, a=np.zeros((2, 4)), b=np.zeros((2, 4)), c=np.zeros((2, 4)))
    else:
        file.write_bytes(damage)
    assert np.array_equal(decompose(learned(4)).a, first.a)
    assert len(file.read_bytes()) == len(whole)
    assert [f.suffix for f in file.parent.iterdir()] == [".npz"]


def test_a_cache_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert decompose(learned(3)).residual <= 1e-11


def test_factors_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        decompose("quaternion").a[0, 0] = 2.0


@pytest.mark.parametrize(
    ("of", "rank", "message"),
    [
        (np.zeros((2, 3, 2)), None, "shape"),
        (np.zeros((2, 2, 2)), None, "not all zero"),
        (np.full((2, 2, 2), np.nan), None, "finite"),
        ("quaternion", 0, "at least one term"),
    ],
)
def test_what_cannot_be_decomposed_is_refused_in_words(of, rank, message):
    with pytest.raises(ValueError, match=message):
        decompose(of, rank)


def test_a_learned_algebra_has_no_constants_to_decompose():
    with pytest.raises(ValueError, match="learned"):
        decompose(algebra("ph", 4))


def test_the_generic_rank_is_below_n_squared():
    assert [generic_rank(n) for n in (1, 2, 3, 4, 8)] == [1, 2, 5, 7, 24]
