"""All-pairs coverage: few rows in which every two values of different factors meet at least once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def all_rows(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The full product of the factors' values, less the rows that are not allowed."""
    rows = (dict(zip(factors, values, strict=True)) for values in product(*factors.values()))
    return [row for row in rows if allowed(row)]


def pairwise(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Allowed rows in which every pair of values that some allowed row holds occurs: greedy, and always the same.

    Of the rows with the first pair that is still missing, that with most missing pairs is taken. They are looked
    through in a random order, so that ties do not all fall on a factor's first value.
    """
    candidates = all_rows(factors, allowed)
    random.Random(0).shuffle(candidates)
    pairs = [pairs_of(row) for row in candidates]
    holders: dict[Any, list[int]] = {}
    for index, held in enumerate(pairs):
        for pair in held:
            holders.setdefault(pair, []).append(index)
    missing = set(holders)
    chosen = []
    for wanted in sorted(holders, key=lambda pair: len(holders[pair])):  # the rarest have least choice
        if wanted in missing:
            best = max(holders[wanted], key=lambda index: len(pairs[index] & missing))
            missing -= pairs[best]
            chosen.append(candidates[best])
    return chosen


def pairs_of(row: Row) -> frozenset[tuple[tuple[str, Any], tuple[str, Any]]]:
    """All pairs of (factor, value) that a row holds."""
    return frozenset(combinations(row.items(), 2))
