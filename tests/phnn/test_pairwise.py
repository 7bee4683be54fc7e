"""The generator that the matrices rely on: what it leaves out, no test covers."""

from __future__ import annotations

from pairwise import all_rows, pairs_of, pairwise

FACTORS = {"a": [1, 2, 3], "b": ["x", "y"], "c": [None, True, False], "d": [0.5, 1.5]}


def allowed(row: dict[str, object]) -> bool:
    return not (row["a"] == 3 and row["b"] == "x")


def test_every_pair_that_an_allowed_row_holds_is_covered() -> None:
    wanted = frozenset().union(*(pairs_of(row) for row in all_rows(FACTORS, allowed)))
    chosen = pairwise(FACTORS, allowed)
    assert frozenset().union(*(pairs_of(row) for row in chosen)) == wanted
    assert all(allowed(row) for row in chosen)
    assert len(chosen) < len(all_rows(FACTORS, allowed)) / 2


def test_the_choice_is_always_the_same() -> None:
    assert pairwise(FACTORS, allowed) == pairwise(FACTORS, allowed)
