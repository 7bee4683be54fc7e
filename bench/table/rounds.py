"""The raw samples of many timings, end to end in one array, and what is asked of all of them at once.

A span is where one timing's rounds lie: (start, count). A million records come from millions of samples: as Python
numbers they would take gigabytes, and a call for each median minutes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from ..stats import placed_median

Span = tuple[int, int]

_AT_ONCE = 1 << 20  # samples that are sorted together


class Rounds:
    """Seconds of one timing after the other."""

    def __init__(self) -> None:
        self._flat = array("d")
        # where a timing starts → the rounds of each of its placements
        self._placements: dict[int, Sequence[int]] = {}

    def add(self, seconds: Sequence[float], placements: Sequence[int] = ()) -> Span:
        """Keep the rounds of a timing. placements: how many each has, if its subjects were built more than once."""
        if not seconds:
            return 0, 0
        start = len(self._flat)
        if len(placements) > 1:
            self._placements[start] = placements
        self._flat.extend(seconds)
        return start, len(seconds)

    def of(self, spans: Sequence[Span]) -> np.ndarray:
        """The rounds of some timings."""
        flat = np.frombuffer(self._flat)
        return np.concatenate([flat[start : start + count] for start, count in spans])

    def medians(self, spans: Sequence[Span], over: Sequence[Span] | None = None) -> np.ndarray:
        """Of each span the medians of all rounds and of either half of them, (spans, 3); the halves of one round NaN.

        over: spans of as many rounds each, whose seconds divide those of ``spans`` round by round.
        """
        found = np.full((len(spans), 3), np.nan)
        if not spans or not self._flat:
            return found
        starts, counts = _columns(spans)
        below = None if over is None else _columns(over)
        if below is not None and (counts != below[1]).any():
            raise ValueError("rounds are compared with rounds of the same process, so there are as many of both")
        flat = np.frombuffer(self._flat)
        for rows, count in _alike(counts):
            at = starts[rows, None] + np.arange(count)
            values = flat[at]
            if below is not None:
                values = values / flat[below[0][rows, None] + np.arange(count)]
            half = count // 2
            found[rows, 0] = _middle(values)
            if half:
                found[rows, 1] = _middle(values[:, :half])
                found[rows, 2] = _middle(values[:, half:])
            for row, start in enumerate(starts[rows].tolist()) if self._placements else ():
                if placements := self._placements.get(start):
                    found[rows[row]] = _placed(values[row], placements)
        return found


def _placed(values: np.ndarray, placements: Sequence[int]) -> tuple[float, float, float]:
    """What all placements say together, and what either half of them says."""
    half = len(placements) // 2
    border = sum(placements[:half])
    return (
        placed_median(values, placements),
        placed_median(values[:border], placements[:half]),
        placed_median(values[border:], placements[half:]),
    )


def _columns(spans: Sequence[Span]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(spans), np.int64, 2 * len(spans)).reshape(-1, 2).T


def _alike(counts: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The spans of equal length, a bounded number of samples at a time, as (their positions, their length)."""
    order = np.argsort(counts, kind="stable")
    for count in np.unique(counts).tolist():
        first, end = np.searchsorted(counts[order], [count, count + 1])
        step = max(1, _AT_ONCE // max(1, count))
        if count:
            yield from ((order[at : min(at + step, end)], count) for at in range(first, end, step))


def _middle(values: np.ndarray) -> np.ndarray:
    """The median of each row."""
    ordered = np.sort(values, axis=1)
    count = values.shape[1]
    if count % 2:
        return ordered[:, count // 2]
    return (ordered[:, count // 2 - 1] + ordered[:, count // 2]) / 2
