"""All-pairs coverage: few rows in which every two values of different factors meet at least once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def all_rows(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The full product of the factors' values, less the rows that are not allowed."""
    rows = (dict(zip(factors, values, strict=True)) for values in product(*factors.values()))
    return [row for row in rows if allowed(row)]


def pairwise(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Allowed rows in which every pair of values that some allowed row holds occurs: greedy, and always the same."""
    candidates = [(row, pairs_of(row)) for row in all_rows(factors, allowed)]
    missing = set().union(*(pairs for _, pairs in candidates)) if candidates else set()
    chosen = []
    while missing:
        best = max(range(len(candidates)), key=lambda i: len(candidates[i][1] & missing))
        row, pairs = candidates.pop(best)
        missing -= pairs
        chosen.append(row)
        # what a row can still add only shrinks: rows that add nothing never will
        candidates = [(row, left) for row, pairs in candidates if (left := pairs & missing)]
    return chosen


def pairs_of(row: Row) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    """All pairs of (factor, value) that a row holds."""
    return set(combinations(row.items(), 2))
